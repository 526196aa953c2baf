"""What a server received in a run of a cluster with a tap (`tests/support/tap`), and how to search it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from flwr.app import Message
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from flames_cli.fed.engines.inline import InlineGrid

FRACTION = 36
"""Fractional bits of the words in which clients write weights."""

VALUES = 4
"""Number of consecutive values that no message contains by chance."""


class Recorder(InlineGrid):
    """Grid of the inline engine that stores every reply."""

    kept: ClassVar[list[Message]] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies, as the inline engine does."""
        replies = list(super().pull_messages(message_ids))
        self.kept.extend(reply for reply in replies if not reply.has_error())
        return replies


def read_requests(folder: Path) -> bytes:
    """Return the bodies of all requests from nodes."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.request")))


def read_replies(folder: Path) -> list[Message]:
    """Return all messages that the run's process received, without those that are errors."""
    messages = [
        message_from_proto(ProtoMessage.FromString(path.read_bytes())) for path in folder.glob("*.reply")
    ]
    return [message for message in messages if not message.has_error()]


def forms_of(values: np.ndarray) -> Iterator[bytes]:
    """Yield some consecutive values in every form in which weights or numbers travel."""
    exact = values.astype(np.float64)
    for factor in (1.0, -1.0):
        for kind in (np.float16, np.float32, np.float64):
            for order in "<>":
                yield (exact * factor).astype(np.dtype(kind).newbyteorder(order)).tobytes()
        yield np.rint(exact * factor * 2.0**FRACTION).astype(np.int64).tobytes()


def find_weights(wire: bytes, weights: Mapping[str, np.ndarray]) -> list[str]:
    """Return the entries of which distinctive values are in `wire`."""
    return [name for name, array in weights.items() if _is_in(wire, array)]


def _is_in(wire: bytes, array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    windows = [flat[at : at + VALUES] for at in range(0, flat.size - VALUES + 1, VALUES)]
    distinctive = [one for one in windows if len(np.unique(one)) == VALUES and np.abs(one).min() > 1e-4]
    return any(form in wire for one in distinctive[:3] for form in forms_of(one))


def find_numbers(wire: bytes, numbers: Iterable[float]) -> list[float]:
    """Return the numbers that are in `wire`, as text or as 64 bits; they must have many digits."""
    kinds = [np.dtype(order + "f8") for order in "<>"]
    return [
        one
        for one in numbers
        if repr(one).encode() in wire or any(np.array(one, kind).tobytes() in wire for kind in kinds)
    ]


def unevenness(words: np.ndarray) -> float:
    """Return by how many standard deviations the bytes of `words` differ from uniform noise (chi-squared)."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    freedom = 255
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))
