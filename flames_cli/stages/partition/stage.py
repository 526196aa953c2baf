"""`flames partition`: `preprocessed/*.h5` → a named partition: `partition.json` and the shards, one file per
client and one per modality for the server."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from flames_cli.config import PartitionConfig
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.readers import READERS
from flames_cli.stages.partition.cases import DataSet, by_collection, read_dataset, reader_name
from flames_cli.stages.partition.clients import SITE, ClientPlan, Split, plan_clients, resolve_split
from flames_cli.stages.partition.notes import (
    describe_lost_sites,
    describe_test_only_sites,
    find_lost_sites,
    find_test_only_sites,
    prepared_differently,
)
from flames_cli.stages.partition.server_sets import HeldOut, ServerPlan, hold_out_sites, plan_server
from flames_cli.stages.partition.shared_patients import require_different_patients
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.cases import CaseInfo
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.atomic import REMOVED, remove_leftovers, replacing_folder
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.locks import writing_partition
from flames_cli.store.fold_sets import find_siblings
from flames_cli.store.h5 import read_shard_cases, write_shard
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry, open_partition, write_partition
from flames_cli.store.partitions import runs_on
from flames_cli.store.workspace import PARTITION_FILE, partition_file, partition_folder

OPTIONS = {"skew", "fold", "hold_out_site", "val_fraction", "different_people"}
"""Options that are recorded as given; `split` is recorded as resolved."""

Entry = TypeVar("Entry", ClientEntry, ServerEntry)


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A partition that was made."""

    name: str
    folder: Path
    partition: Partition
    aside: str = ""
    """New name of the partition that had this name before, which a run needs; empty if no run does."""
    notes: tuple[str, ...] = ()
    """Warnings for the user before training."""


def partition(config: PartitionConfig, progress: Progress = silent) -> Partition:
    """Divide the preprocessed data sets between clients and write their shards.

    Raises:
        MissingArtifact, FlamesError: as `make_partition`.
    """
    return make_partition(config, progress).partition


def make_partitions(config: PartitionConfig, progress: Progress = silent) -> list[Partitioned]:
    """Make all folds of a cross-validation, or the only partition.

    Raises:
        MissingArtifact, FlamesError: as `make_partition`; or a fold that exists without `overwrite`, before
            any fold is made.
    """
    members = config.members
    there = [one.name for one in members if partition_folder(config.workspace, one.name).exists()]
    if config.folds and there and not config.overwrite:
        raise FlamesError(
            f"the partitions {', '.join(there)} exist already in {config.workspace / 'partitions'}; pass "
            "--overwrite to make all folds again, or another --name"
        )
    return [make_partition(one, progress) for one in members]


def make_partition(config: PartitionConfig, progress: Progress = silent) -> Partitioned:
    """Divide the preprocessed data sets between clients and write their shards, completely or not at all.

    Raises:
        MissingArtifact: a data set is not preprocessed.
        FlamesError: sizes or channels differ, data sets share patients, there are too few patients for the
            requested clients, no such site, a patient in two roles, or a partition of that name that exists
            without `overwrite`. Nothing has changed then.
    """
    with writing_partition(config.workspace, config.name):
        return _make_partition(config, progress)


def _make_partition(config: PartitionConfig, progress: Progress) -> Partitioned:
    target = partition_folder(config.workspace, config.name)
    if target.exists() and not config.overwrite:
        raise FlamesError(
            f"partition '{config.name}' exists already in {target}; pass --overwrite to make it again, or "
            "another --name"
        )
    files = _find_files(config)
    before = [_mark(path) for path in files]
    datasets = [read_dataset(path) for path in files]
    size = _common(datasets, "size", "image size", "preprocess them with one --size")
    channels = _common(datasets, "channels", "channels", "preprocess them with the same --channels")
    if not config.different_people:
        require_different_patients(config.workspace, datasets)
    split = resolve_split(config.split, datasets)
    held_out = hold_out_sites(config.hold_out_site, datasets)
    lost = find_lost_sites(datasets)
    by_site = [dataset for dataset in held_out.seen if split[dataset.name] == SITE]
    clients = _plan_all_clients(config, held_out, split)
    server = plan_server(held_out)
    _require_distinct_shards(clients, server)
    with replacing_folder(target) as folder:
        _write_shards(folder, clients, server, progress)
        made = Partition(
            seed=config.seed,
            size=size,
            clients=[_with_checksum(folder, client) for client, _ in clients],
            server=[_with_checksum(folder, entry) for entry, _ in server],
            channels=channels,
            options=_options_as_run(config, split),
            left_out=held_out.left_out,
            sites_left_out=lost,
        )
        if [_mark(path) for path in files] != before:
            raise FlamesError(
                "a data set was preprocessed again while it was divided; run `flames partition` again"
            )
        verify_partition(folder, made)
        write_partition(folder / PARTITION_FILE, made)
        notes = [
            *describe_lost_sites(lost),
            *describe_test_only_sites(find_test_only_sites(by_site)),
            *prepared_differently(folder, made.clients),
        ]
        aside = _keep_for_runs(config, hash_file(folder / PARTITION_FILE))
    remove_leftovers(target.parent, f"{config.name}{REMOVED}*")
    return Partitioned(config.name, target, made, aside, tuple(notes))


def _keep_for_runs(config: PartitionConfig, sha256: str) -> str:
    """Rename the partition that is replaced, if a run was made on it and the new one differs; return its new
    name, or an empty text."""
    old = partition_file(config.workspace, config.name)
    if not old.is_file() or hash_file(old) == sha256 or not _is_needed(config.workspace, config.name):
        return ""
    aside = set_aside(old.parent)
    return aside.name if aside else ""


def _is_needed(workspace: Path, name: str) -> bool:
    """Return whether a run was made on a partition, or on another fold of its cross-validation: a family of
    runs that continues needs all folds."""
    if runs_on(workspace, hash_file(partition_file(workspace, name))):
        return True
    try:
        own = open_partition(workspace, name).content
    except FlamesError:
        return False
    return any(runs_on(workspace, fold.sha256) for fold in find_siblings(workspace, own))


def _mark(path: Path) -> tuple[int, int, int]:
    """Return a value that changes when the file is replaced."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _find_files(config: PartitionConfig) -> list[Path]:
    folder = config.workspace / "preprocessed"
    there = {path.stem: path for path in sorted(folder.glob("*.h5"))}
    if not (there or config.datasets):
        raise MissingArtifact(f"no data set in {folder}; make one with `flames preprocess --dataset NAME`")
    names = dict.fromkeys(_resolve_name(name, there) for name in config.datasets) or there
    files = [folder / f"{name}.h5" for name in names]
    for path in files:
        if not path.exists():
            raise MissingArtifact(
                f"{path} does not exist; make it with `flames preprocess --dataset {path.stem}`"
            )
    return files


def _resolve_name(name: str, there: dict[str, Path]) -> str:
    """Return the file's name: `name` in any case, or the name of the reader that has it among its names.

    Raises:
        FlamesError: there is no such file, and no reader that would make it.
    """
    known = {stem.lower(): stem for stem in there}
    for asked in (name, reader_name(name)):
        if asked.lower() in known:
            return known[asked.lower()]
    if reader_name(name) in READERS:
        return reader_name(name)
    raise FlamesError(
        f"data set '{name}' is not known; preprocessed are {', '.join(there) or 'none'}, "
        f"and `flames preprocess` reads {', '.join(READERS)}"
    )


def _common(datasets: Sequence[DataSet], field: str, what: str, advice: str) -> int:
    values = {dataset.name: int(getattr(dataset.info, field)) for dataset in datasets}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        raise FlamesError(f"the data sets differ in {what} ({listed}); {advice}")
    return next(iter(values.values()))


def _plan_all_clients(
    config: PartitionConfig, held_out: HeldOut, split: dict[str, Split]
) -> list[ClientPlan]:
    """Plan all clients, in order of the data sets."""
    order = [dataset.name for dataset in held_out.seen]
    plans = [
        plan for together in by_collection(held_out.seen) for plan in plan_clients(config, together, split)
    ]
    if not plans and not config.hold_out_site:
        raise FlamesError(
            f"all patients of {', '.join(order)} are in the server's test sets, expected some for clients; "
            "preprocess a data set without --only server-test"
        )
    if not plans:
        raise FlamesError("no client is left; hold out fewer sites (--hold-out-site)")
    if config.fold and not any(client.images["test"] for client, _ in plans):
        raise FlamesError(
            f"fold {config.fold} has no patient to test, since no client has enough patients; use fewer folds"
        )
    return sorted(plans, key=lambda plan: order.index(plan[0].dataset))


def _require_distinct_shards(clients: Sequence[ClientPlan], server: Sequence[ServerPlan]) -> None:
    """Check that no two shards have the same name: they would overwrite each other, on some disks even if the
    case differs."""
    seen: set[str] = set()
    for shard in [*(entry.shard for entry, _ in clients), *(entry.shard for entry, _ in server)]:
        if shard.lower() in seen:
            raise FlamesError(f"two shards would be called {shard}; preprocess one with another --name")
        seen.add(shard.lower())


def _write_shards(
    folder: Path, clients: Sequence[ClientPlan], server: Sequence[ServerPlan], progress: Progress
) -> None:
    for done, (client, selections) in enumerate(clients, start=1):
        write_shard(folder / client.shard, client.name, client.modality, selections)
        progress("partition", done, len(clients))
    for entry, selections in server:
        write_shard(folder / entry.shard, Path(entry.shard).stem, entry.modality, selections)


def _with_checksum(folder: Path, entry: Entry) -> Entry:
    return replace(entry, sha256=hash_file(folder / entry.shard))


def _options_as_run(config: PartitionConfig, split: dict[str, Split]) -> dict[str, Any]:
    options = config.model_dump(mode="json", include=OPTIONS)
    return {"split": split, **options}


@dataclass(frozen=True, slots=True)
class Place:
    """Place where a patient is."""

    set_name: str
    """The set, with its shard."""
    role: str
    """`train`, `val`, `test`, or `server`."""
    dataset: str
    site: str
    """Site of the client or test set; empty if it is not of one site."""

    def clashes(self, other: "Place") -> bool:
        """Return whether no patient may be in both places: two roles, or two clients that were not divided by
        site."""
        by_site = self.site and other.site
        return self.role != other.role or (self.dataset == other.dataset and not by_site)


def verify_partition(folder: Path, made: Partition) -> None:
    """Read every shard back and check that no patient and no split unit has two roles.

    Clients whose modalities share patients may train on the same patient, and clients divided by site may
    train on the patient's images from each site; else a patient is in one shard only.

    Raises:
        FlamesError: a patient has two roles; the message names the patient and both sets.
    """
    for identity in ("patient", "split_unit"):
        places: dict[str, list[Place]] = {}
        for place, collection, cases in _read_places(folder, made):
            for name in sorted({f"{collection}/{getattr(case, identity)}" for case in cases}):
                if clash := next((one for one in places.get(name, ()) if one.clashes(place)), None):
                    what = identity.replace("_", " ")
                    raise FlamesError(
                        f"{what} {name} is in {clash.set_name} and in {place.set_name}; "
                        "preprocess the data set again"
                    )
                places.setdefault(name, []).append(place)


def _read_places(folder: Path, made: Partition) -> Iterator[tuple[Place, str, list[CaseInfo]]]:
    """Return (place, collection, cases) of every set of every shard."""
    for client in made.clients:
        for role, (info, cases) in read_shard_cases(folder / client.shard).items():
            place = Place(f"{client.shard}:{role}", role, info.dataset, client.site)
            yield place, info.collection or info.dataset, cases
    for server in made.server:
        for name, (info, cases) in read_shard_cases(folder / server.shard).items():
            site = server.sites.get(name.removeprefix("test/"), "")
            place = Place(f"{server.shard}:{name}", "server", info.dataset, site)
            yield place, info.collection or info.dataset, cases
