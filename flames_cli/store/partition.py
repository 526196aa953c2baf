"""`partition.json`: the data of every client and of the server. It is decided once and read by all later
stages."""

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flames_cli.core.patient_units import NOUNS
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.atomic import write_json
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import CLIENT_SETS
from flames_cli.store.partitions import missing_partition
from flames_cli.store.schema import PARTITION, check_stamp, read_json, stamp
from flames_cli.store.workspace import partition_command, partition_file, partition_folder

_ENTRIES = ("seed", "size", "clients", "server", "channels", "options", "left_out")


@dataclass(frozen=True, slots=True)
class ClientEntry:
    """One client: its shard (relative to the partition's folder), and its images and patients per set.

    Images are stills and the selected slices of volumes; a test set also has the other slices.
    """

    name: str
    dataset: str
    modality: str
    organ: str
    shard: str
    images: dict[str, int]
    patients: dict[str, list[str]]
    sha256: str = ""
    """SHA-256 of the shard's bytes; empty before it is written."""
    site: str = ""
    """The centre that all its cases come from, if the data set was divided by site."""
    patient_unit: str = "patient"
    """Unit that counts as a patient (see `SetInfo`); earlier releases did not record it."""
    test_volumes: tuple[int, int] = (0, 0)
    """Number of volumes of the test set, and of all their slices; earlier releases did not record them."""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """The server's unseen patients of one modality, by test set.

    A test set has the name of its data set (`polypgen`); the test set of an unseen site has both names
    (`polypgen@C6`).
    """

    modality: str
    shard: str
    organs: dict[str, str]
    """Organ by test set."""
    images: dict[str, int]
    """Number of images by test set."""
    patients: dict[str, list[str]]
    """Patients by test set."""
    sha256: str = ""
    """SHA-256 of the shard's bytes; empty before it is written."""
    sites: dict[str, str] = field(default_factory=dict)
    """Unseen site by test set; test sets without an entry come from the clients' own sites."""
    patient_units: dict[str, str] = field(default_factory=dict)
    """Unit that counts as a patient, by test set; earlier releases did not record it: patients."""
    test_volumes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Number of volumes of each test set, and of all their slices; earlier releases did not record them."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The clients and the server's test sets."""

    seed: int
    size: int
    clients: list[ClientEntry]
    server: list[ServerEntry]
    channels: int = 1
    """Channels of the images: 1 grey, 3 colour."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the partition: split (by data set, as resolved), skew, fold, hold_out_site, val_fraction."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Number of images by data set that are in no shard, because their patients (or near copies) are of a
    held-out site."""
    sites_left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of cases of each site of which `flames preprocess` left out all, by data set and site; earlier
    releases did not record them."""

    @property
    def shards(self) -> list[str]:
        """Every shard, relative to the partition's folder."""
        return [client.shard for client in self.clients] + [server.shard for server in self.server]

    @property
    def modalities(self) -> list[str]:
        """The clients' modalities, in order of the first client of each."""
        return list(dict.fromkeys(client.modality for client in self.clients))


def write_partition(path: Path, partition: Partition) -> None:
    """Write `partition.json`, atomically."""
    write_json(path, {**stamp(PARTITION), **asdict(partition)})


def read_partition(path: Path) -> Partition:
    """Read `partition.json`.

    Raises:
        MissingArtifact: there is none; the message names the command that makes it.
        FlamesError: it is damaged, has another format or version, or names shards outside of its folder.
    """
    content = read_json(path, PARTITION)
    check_stamp(content, PARTITION, path)
    try:
        entries = {key: content[key] for key in _ENTRIES}
        entries["sites_left_out"] = content.get("sites_left_out", {})
        partition = _form().validate_json(json.dumps(entries), strict=True)
        _check_entries(partition)
    except KeyError as error:
        raise FlamesError(
            f"{path} has missing entries ({error}); make it again with `flames partition`"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) if str(part).isprintable() else ascii(part) for part in first["loc"])
        found = f"{where}: {first['msg']}"
        raise FlamesError(
            f"{path} has wrong entries ({found}); make it again with `flames partition`"
        ) from error
    except ValueError as error:
        raise FlamesError(
            f"{path} has wrong entries ({error}); make it again with `flames partition`"
        ) from error
    return partition


@cache
def _form() -> TypeAdapter[Partition]:
    return TypeAdapter(Partition)


def _check_entries(partition: Partition) -> None:
    """Check that all entries that later stages read exist, and that every shard is inside the partition's
    folder."""
    for shard in partition.shards:
        parts = PureWindowsPath(shard)
        if not shard.isprintable() or parts.drive or parts.root or ".." in parts.parts:
            raise ValueError(f"shard {shard[:80]!r} is not a path inside the folder")
    for client in partition.clients:
        if not client.images.keys() == client.patients.keys() == set(CLIENT_SETS):
            raise ValueError(f"client {client.name[:80]!r} has other sets than {', '.join(CLIENT_SETS)}")
    units = {client.patient_unit for client in partition.clients}
    units.update(*(server.patient_units.values() for server in partition.server))
    if unknown := units - NOUNS.keys():
        raise ValueError(f"a patient_unit is {min(unknown)[:80]!r}, expected one of {', '.join(NOUNS)}")
    for server in partition.server:
        if not server.images.keys() == server.patients.keys() == server.organs.keys() >= server.sites.keys():
            raise ValueError(f"the test sets of {server.modality[:80]!r} differ between its entries")


def checked_shard(folder: Path, entry: ClientEntry | ServerEntry) -> Path:
    """Return the path of the entry's shard below `folder`, checked to have the bytes that `flames partition`
    wrote.

    Raises:
        MissingArtifact: it is missing.
        FlamesError: it has changed since.
    """
    path, again = folder / entry.shard, partition_command(folder.name, "--overwrite")
    if not path.is_file():
        raise MissingArtifact(f"{path} does not exist; make it with {again}")
    if hash_file(path) != entry.sha256:
        raise FlamesError(
            f"{path} has changed since `flames partition` wrote it (its checksum differs from "
            f"partition.json); make it again with {again}"
        )
    return path


@dataclass(frozen=True, slots=True)
class NamedPartition:
    """A partition of a workspace, and its name."""

    name: str
    folder: Path
    """Folder relative to which its shards are named."""
    sha256: str
    """SHA-256 of its `partition.json`, by which runs recognise it."""
    content: Partition


def open_partition(workspace: Path, name: str) -> NamedPartition:
    """Return partition `name`.

    Raises:
        MissingArtifact: there is none; the message names the existing partitions and the command.
        FlamesError: it cannot be read.
    """
    path = partition_file(workspace, name)
    if not path.is_file():
        raise missing_partition(workspace, name)
    return NamedPartition(name, partition_folder(workspace, name), hash_file(path), read_partition(path))
