"""The file `clients.json` of a run: each client as it joined."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flames_cli.core.imaging.preparation import NOT_KNOWN, Preparation
from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import write_json
from flames_cli.store.schema import CLIENTS, check_stamp, read_json, stamp

PREPARED = tuple(entry.name for entry in fields(Preparation))
"""Names of the entries of a client that describe its preparation."""

LONGEST_TEXT = 20_000
"""Largest number of characters of a preparation as text."""


@dataclass(frozen=True, slots=True)
class KeptModel:
    """Final model that a client has stored at its site."""

    round: int
    sha256: str
    """SHA-256 of its weights as the server sent them (`store.weights.hash_weights`)."""


@dataclass(frozen=True, slots=True)
class JoinedClient:
    """A client of a run as it described itself when it joined."""

    client: str
    modality: str
    organ: str
    size: int
    channels: int = 1
    n_train: int | None = None
    """Number of training images; None in runs with differential privacy, which does not cover it."""
    n_val: int | None = None
    """Number of validation images; None as `n_train`."""
    preparation: Preparation = NOT_KNOWN
    """Rules by which its images were prepared."""
    kept: KeptModel | None = None
    """Its own model, if it has stored it; None with other engines than superlink."""


def write_clients(path: Path, clients: Iterable[JoinedClient]) -> None:
    """Write the clients of a run, sorted by name.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    entries = []
    for client in sorted(clients, key=lambda one: one.client):
        entry = asdict(client)
        entries.append(entry | entry.pop("preparation"))
    write_json(path, {**stamp(CLIENTS), "clients": entries})


def read_clients(path: Path) -> list[JoinedClient]:
    """Return the clients of a run, sorted by name; empty if a run of an earlier release has no such file.

    Raises:
        FlamesError: the file cannot be read, or has another format or version.
    """
    if not path.exists():
        return []
    content = read_json(path, CLIENTS)
    check_stamp(content, CLIENTS, path)
    try:
        return sorted(map(_client, content["clients"]), key=lambda one: one.client)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FlamesError(
            f"{path} has wrong entries; delete it, and `flames federate` writes it again when the run "
            "continues"
        ) from error


def preparation_text(preparation: Preparation) -> str:
    """Return a preparation as JSON, for `parse_preparation`."""
    return json.dumps(asdict(preparation))


def parse_preparation(text: str) -> Preparation:
    """Return the preparation in `text`, which may come from another machine.

    Raises:
        ValueError: it is too long, is not JSON, or has wrong or impossible entries.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"its preparation has more than {LONGEST_TEXT} characters")
    try:
        return _preparation_form().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"its preparation is wrong ({where}: {first['msg']})") from error


def _client(entry: dict[str, object]) -> JoinedClient:
    own = {name: entry.get(name, ()) for name in PREPARED}
    rest = {name: value for name, value in entry.items() if name not in own}
    return _client_form().validate_json(json.dumps({**rest, "preparation": own}), strict=True)


@cache
def _preparation_form() -> TypeAdapter[Preparation]:
    return TypeAdapter(Preparation)


@cache
def _client_form() -> TypeAdapter[JoinedClient]:
    return TypeAdapter(JoinedClient)
