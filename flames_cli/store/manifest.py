"""`partition.json`: who holds what. Decided once, read by every later stage, never derived again."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.atomic import write_json
from flames_cli.store.h5 import hash_file
from flames_cli.store.parse import parse_json
from flames_cli.store.schema import MADE_BY, PARTITION, check_stamp, stamp


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """One client: its shard (relative to the partition's folder), images and patients per set."""

    name: str
    dataset: str
    modality: str
    organ: str
    shard: str
    images: dict[str, int]
    patients: dict[str, list[str]]
    sha256: str = ""
    """Of the shard's bytes; empty before it is written."""
    site: str = ""
    """The centre that all its cases come from, where the data set was divided by site."""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """The server's unseen patients of one modality, by test set.

    A test set is called as its data set (`polypgen`); that of an unseen site as both (`polypgen@C6`).
    """

    modality: str
    shard: str
    organs: dict[str, str]
    """By test set."""
    images: dict[str, int]
    """By test set."""
    patients: dict[str, list[str]]
    """By test set."""
    sha256: str = ""
    """Of the shard's bytes; empty before it is written."""
    sites: dict[str, str] = field(default_factory=dict)
    """By test set: the site that no client has seen; the other test sets are of the clients' own sites."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The clients and the server's test sets."""

    seed: int
    size: int
    clients: list[ClientEntry]
    server: list[ServerEntry]
    channels: int = 1
    """Of the images: 1 grey, 3 colour."""
    options: dict[str, Any] = field(default_factory=dict)
    """How it was made: split (by data set, as resolved), skew, fold, hold_out_site, val_fraction."""
    left_out: dict[str, int] = field(default_factory=dict)
    """By data set: images that are in no shard, being of patients (or near copies) of a held-out site."""

    @property
    def shards(self) -> list[str]:
        """Every shard, relative to the partition's folder."""
        return [client.shard for client in self.clients] + [server.shard for server in self.server]

    @property
    def modalities(self) -> list[str]:
        """In order of the first client of each."""
        return list(dict.fromkeys(client.modality for client in self.clients))


def write_partition(path: Path, partition: Partition) -> None:
    """Write `partition.json`, atomically."""
    write_json(path, {**stamp(PARTITION), **asdict(partition)})


def read_partition(path: Path) -> Partition:
    """Read `partition.json`.

    Raises:
        MissingArtifact: there is none; names the command.
        FlamesError: damaged, or of another format or version.
    """
    content = read_json(path, PARTITION.name)
    check_stamp(content, PARTITION, path)
    try:
        return Partition(
            seed=content["seed"],
            size=content["size"],
            clients=[ClientEntry(**entry) for entry in content["clients"]],
            server=[ServerEntry(**entry) for entry in content["server"]],
            channels=content["channels"],
            options=content["options"],
            left_out=content["left_out"],
        )
    except (KeyError, TypeError) as error:
        raise FlamesError(f"{path} lacks entries ({error}); make it anew with `flames partition`") from error


def checked_shard(folder: Path, entry: ClientEntry | ServerEntry) -> Path:
    """The path of the entry's shard below `folder`, its bytes as `flames partition` left them.

    Raises:
        MissingArtifact: it is not there.
        FlamesError: it has changed since.
    """
    path = folder / entry.shard
    if not path.is_file():
        raise MissingArtifact(f"{path} is not there; make it with `flames partition --overwrite`")
    if hash_file(path) != entry.sha256:
        raise FlamesError(
            f"{path} is not as `flames partition` wrote it (its checksum differs from partition.json); "
            "make it anew with `flames partition --overwrite`"
        )
    return path


def read_json(path: Path, format_name: str) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        MissingArtifact: there is no such file; names the command that makes it.
        FlamesError: not a JSON object.
    """
    command = MADE_BY[format_name]
    if not path.exists():
        raise MissingArtifact(f"{path} is not there; make it with `{command}`")
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read as JSON; make it anew with `{command}`") from error
    if not isinstance(content, dict):
        raise FlamesError(f"{path} holds no JSON object; make it anew with `{command}`")
    return content
