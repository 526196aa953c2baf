"""Messages of secure aggregation: KEYS, SHARES, the part of a TRAIN message, and UNMASK, with their replies.

A message has the record SECURE with the session and numbers, and the record BLOBS with bytes of
`flames_cli.secagg`, packed as weights are (`packed_weights`). Both sides check all of it: types, lengths and
limits.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from flames_cli.fed.client_state import check_token
from flames_cli.fed.exchange import TTL_SECONDS
from flames_cli.fed.messages import LONGEST_NAME
from flames_cli.fed.numbers import read_integer
from flames_cli.fed.records import config_of, pack_weights, unpack_weights
from flames_cli.fed.sanitise import sanitise

KEYS, SHARES, UNMASK = "keys", "shares", "unmask"
"""Actions of the ClientApp; a message's type is `query.ACTION`."""

SECURE, BLOBS, WORDS = "secure", "secure_blobs", "secure_words"
"""Names of records: the session with numbers, bytes by name, and the masked vector."""

MOST_CLIENTS = 10_000
"""Largest number of clients of a session."""
LARGEST_BLOB = 1 << 24
"""Largest size of the bytes of one client; the sealed shares for 10,000 clients have about 3 MB."""

ADVERT, DEALING, DEALT, OPENING = "advert", "dealing", "dealt", "opening"
"""Names of the bytes in replies, and in the training request."""

_SESSION = re.compile(r"[0-9a-f]{32}")

Blobs = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a message that is about secure aggregation."""

    session: str
    """Identifier of the session, 32 hex digits."""
    run: str
    """Token of the run, which names the client's folder of client state."""
    blobs: Blobs = field(default_factory=dict)
    """Bytes by name: by client in SHARES, else by one of the names above."""
    names: tuple[str, ...] = ()
    """Clients: in a reply to KEYS those with which the client opened this round before, in UNMASK the
    survivors."""


def type_of(action: str) -> str:
    """Return the type of the messages for an action."""
    return f"query.{action}"


def add_part(content: RecordDict, part: Part) -> None:
    """Add `part` to the content of a message."""
    content[SECURE] = ConfigRecord({"session": part.session, "run": part.run, "names": list(part.names)})
    content[BLOBS] = pack_weights({name: np.frombuffer(blob, np.uint8) for name, blob in part.blobs.items()})


def ask(action: str, node: int, part: Part, group_id: str) -> Message:
    """Return the message for an action to a node."""
    content = RecordDict()
    add_part(content, part)
    return Message(content, node, type_of(action), ttl=TTL_SECONDS, group_id=group_id)


def reply_with(part: Part, message: Message) -> Message:
    """Return a client's reply."""
    content = RecordDict()
    add_part(content, part)
    return Message(content, reply_to=message)


def has_part(message: Message) -> bool:
    """Return whether a message has a part about secure aggregation."""
    return SECURE in message.content


def read_part(message: Message) -> Part:
    """Return the part of a message that is about secure aggregation.

    Raises:
        KeyError, TypeError, ValueError: the message has no valid one.
    """
    values = config_of(message, SECURE)
    session, run, names = (values[key] for key in ("session", "run", "names"))
    if not (isinstance(session, str) and _SESSION.fullmatch(session)):
        raise ValueError("its session is not named by 32 hex digits")
    check_token(str(run))
    if not isinstance(names, list) or len(names) > MOST_CLIENTS or not all(_is_name(one) for one in names):
        raise ValueError(f"its clients are not at most {MOST_CLIENTS} names")
    return Part(session, str(run), _read_blobs(message), tuple(names))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _read_blobs(message: Message) -> Blobs:
    arrays = unpack_weights(message, BLOBS)
    if len(arrays) > MOST_CLIENTS:
        raise ValueError(f"it has bytes of {len(arrays)} clients, expected at most {MOST_CLIENTS}")
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 1 or array.size > LARGEST_BLOB or not _is_name(name):
            raise ValueError(
                f"'{sanitise(name[:LONGEST_NAME])}' is {array.dtype} of shape {array.shape}, expected "
                f"at most {LARGEST_BLOB} bytes"
            )
    return {name: array.tobytes() for name, array in arrays.items()}


def only(part: Part, name: str) -> bytes:
    """Return the only bytes of a part, which must be called `name`.

    Raises:
        ValueError: there are others.
    """
    if list(part.blobs) != [name]:
        raise ValueError(
            f"it has the bytes {sanitise(', '.join(part.blobs)[:200])!r}, expected '{name}' alone"
        )
    return part.blobs[name]


@dataclass(frozen=True, slots=True)
class MaskedReport:
    """A client's masked vector: all that its training reply contains."""

    client: str
    modality: str
    round: int
    session: str
    words: NDArray[np.unsignedinteger]
    """Unsigned integers of 32 or 64 bits."""


def pack_masked(report: MaskedReport, message: Message) -> Message:
    """Return a client's reply to a request with a session."""
    about: dict[str, Any] = {
        "client": report.client,
        "modality": report.modality,
        "round": report.round,
        "session": report.session,
    }
    content = RecordDict({SECURE: ConfigRecord(about), WORDS: pack_weights({WORDS: report.words})})
    return Message(content, reply_to=message)


def unpack_masked(reply: Message) -> MaskedReport:
    """Return the masked vector in a client's reply; its memory is that of the message.

    Raises:
        KeyError, TypeError, ValueError: the reply contains no masked vector, or something else too.
    """
    # A report with weights, of a client that was not asked for them, must not be read as something else.
    if sorted(reply.content) != sorted((SECURE, WORDS)):
        raise ValueError("it contains more than a masked vector; install the same version everywhere")
    about = config_of(reply, SECURE)
    arrays = unpack_weights(reply, WORDS)
    if list(arrays) != [WORDS] or arrays[WORDS].ndim != 1:
        raise ValueError(f"its words are {len(arrays)} arrays, expected one vector")
    return MaskedReport(
        client=str(about["client"]),
        modality=str(about["modality"]),
        round=read_integer(about["round"], "round"),
        session=str(about["session"]),
        words=arrays[WORDS],
    )


def part_bytes(message: Message) -> int:
    """Return the number of bytes of the blobs in a message."""
    record = message.content.get(BLOBS)
    return sum(len(array.data) for array in record.values()) if isinstance(record, ArrayRecord) else 0


def names_of(names: Sequence[str]) -> str:
    """Return names of clients as a text."""
    return ", ".join(names)
