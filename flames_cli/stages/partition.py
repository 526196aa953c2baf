"""`preprocessed/*.h5` → `partition.json` and the shards: one file a client, one a modality for the server."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from flames_cli.config import PartitionConfig
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import Group, Share, divide_groups, find_overlaps, take_groups
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.readers import get_reader
from flames_cli.stages.progress import Progress, silent
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.h5 import Selection, hash_file, read_preprocessed_cases, read_shard_cases, write_shard
from flames_cli.store.manifest import ClientEntry, Partition, ServerEntry, write_partition

Entry = TypeVar("Entry", ClientEntry, ServerEntry)

DEFAULT_SPLIT: Mapping[str, int] = {"brats": 3}
"""Clients by data set, as in the paper; every other data set is one client."""

Sets = dict[str, list[CaseInfo]]
ClientPlan = tuple[ClientEntry, dict[str, Selection]]


def partition(config: PartitionConfig, progress: Progress = silent) -> Partition:
    """Divide the preprocessed data sets between clients and write their shards.

    Raises:
        MissingArtifact: a data set is not preprocessed.
        FlamesError: sizes differ, too few patients for the clients asked for, a patient in two sets, or a
            partition that exists without `overwrite`.
    """
    target = config.workspace / "partition.json"
    if target.exists() and not config.overwrite:
        raise FlamesError(f"{target} is there already; pass --overwrite to make it anew")
    files = _find_datasets(config)
    read = {name: read_preprocessed_cases(path) for name, path in files.items()}
    size = _common_size({name: info for name, (info, _) in read.items()})
    planned = [
        plan for name, (info, sets) in read.items() for plan in _plan_clients(config, files[name], info, sets)
    ]
    shards = config.workspace / "shards"
    target.unlink(missing_ok=True)  # from here on it would describe shards that are half old, half new
    for done, (client, selections) in enumerate(planned, start=1):
        write_shard(config.workspace / client.shard, client.name, client.modality, selections)
        progress("partition", done, len(planned))
    server = _write_server(shards, files, read)
    made = Partition(
        seed=config.seed,
        size=size,
        clients=[_with_checksum(config.workspace, client) for client, _ in planned],
        server=[_with_checksum(config.workspace, entry) for entry in server],
    )
    verify_partition(config.workspace, made)
    write_partition(target, made)
    _remove_strangers(shards, made)
    return made


def _with_checksum(workspace: Path, entry: Entry) -> Entry:
    return replace(entry, sha256=hash_file(workspace / entry.shard))


def _find_datasets(config: PartitionConfig) -> dict[str, Path]:
    folder = config.workspace / "preprocessed"
    names = [get_reader(name).NAME for name in config.datasets] or sorted(
        path.stem for path in folder.glob("*.h5")
    )
    if not names:
        raise MissingArtifact(f"no data set in {folder}; make one with `flames preprocess --dataset NAME`")
    files = {name: folder / f"{name}.h5" for name in names}
    for name, path in files.items():
        if not path.exists():
            raise MissingArtifact(f"{path} is not there; make it with `flames preprocess --dataset {name}`")
    if strangers := [name for name in config.split if get_reader(name).NAME not in files]:
        raise FlamesError(
            f"--split names '{strangers[0]}', which is not among the data sets {', '.join(files)}"
        )
    return files


def _common_size(infos: Mapping[str, SetInfo]) -> int:
    sizes = {name: info.size for name, info in infos.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise FlamesError(f"the data sets differ in image size ({listed}); preprocess them with one --size")
    return next(iter(sizes.values()))


def _plan_clients(config: PartitionConfig, path: Path, info: SetInfo, sets: Sets) -> list[ClientPlan]:
    split = {**DEFAULT_SPLIT, **{get_reader(name).NAME: n for name, n in config.split.items()}}
    parts = split.get(info.dataset, 1)
    train = _divide(config, info.dataset, "client_train", sets, parts)
    test = _divide(config, info.dataset, "client_test", sets, parts)
    names = [info.dataset] if parts == 1 else [f"{info.dataset}-{part + 1}" for part in range(parts)]
    plans = []
    for name, train_groups, test_groups in zip(names, train, test, strict=True):
        val_groups = _hold_out(config, name, sets["client_train"], train_groups)
        chosen = {
            "train": ("client_train", train_groups - val_groups),
            "val": ("client_train", val_groups),
            "test": ("client_test", test_groups),
        }
        plans.append(_plan_client(name, path, info, sets, chosen))
    return plans


def _plan_client(
    name: str, path: Path, info: SetInfo, sets: Sets, chosen: dict[str, tuple[str, set[str]]]
) -> ClientPlan:
    selections, members = {}, {}
    for set_name, (source, groups) in chosen.items():
        indices = [index for index, case in enumerate(sets[source]) if case.group in groups]
        selections[set_name] = Selection(path, source, indices)
        members[set_name] = [sets[source][index] for index in indices]
    entry = ClientEntry(
        name=name,
        dataset=info.dataset,
        modality=info.modality,
        organ=info.organ,
        shard=f"shards/{name}.h5",
        images={set_name: len(cases) for set_name, cases in members.items()},
        patients={set_name: sorted({case.patient for case in cases}) for set_name, cases in members.items()},
    )
    return entry, selections


def _divide(config: PartitionConfig, dataset: str, set_name: str, sets: Sets, parts: int) -> list[set[str]]:
    """The groups of patients of each client."""
    groups = _weigh(sets[set_name])
    if len(groups) < parts and groups:
        raise FlamesError(
            f"{dataset} has {len(groups)} patients in {set_name}, too few for {parts} clients; "
            f"pass --split {dataset}={len(groups)}"
        )
    if not groups:
        return [set() for _ in range(parts)]
    rng = derive_rng(config.seed, "partition", dataset, set_name)
    return [set(names) for names in divide_groups(groups, parts, rng)]


def _hold_out(config: PartitionConfig, client: str, train: list[CaseInfo], groups: set[str]) -> set[str]:
    """The groups of patients held out for validation: at least one, unless `val_fraction` is 0."""
    weighed = _weigh([case for case in train if case.group in groups])
    if config.val_fraction > 0 and len(weighed) < 2:
        raise FlamesError(
            f"client {client} has {len(weighed)} patient to train on and none to validate on; "
            "use fewer clients (--split) or pass --val-fraction 0"
        )
    patients = Share.fraction(config.val_fraction, weighed).patients
    images = config.val_fraction * sum(group.images for group in weighed.values())
    share = Share(images, patients)
    return set(take_groups(weighed, share, derive_rng(config.seed, "validation", client)))


def _weigh(cases: list[CaseInfo]) -> dict[str, Group]:
    patients: dict[str, list[str]] = {}
    for case in cases:
        patients.setdefault(case.group, []).append(case.patient)
    return {name: Group(images=len(listed), patients=len(set(listed))) for name, listed in patients.items()}


def _write_server(
    shards: Path, files: Mapping[str, Path], read: Mapping[str, tuple[SetInfo, Sets]]
) -> list[ServerEntry]:
    """One shard of unseen patients a modality, a set for each of its data sets."""
    entries = []
    for modality in dict.fromkeys(info.modality for info, _ in read.values()):
        members = {
            name: (info, sets["server_test"])
            for name, (info, sets) in read.items()
            if info.modality == modality and sets["server_test"]
        }
        if not members:
            continue
        selections = {
            f"test/{name}": Selection(files[name], "server_test", range(len(cases)))
            for name, (_, cases) in members.items()
        }
        write_shard(shards / f"server-{modality}.h5", f"server-{modality}", modality, selections)
        entries.append(
            ServerEntry(
                modality=modality,
                shard=f"shards/server-{modality}.h5",
                organs={name: info.organ for name, (info, _) in members.items()},
                images={name: len(cases) for name, (_, cases) in members.items()},
                patients={
                    name: sorted({case.patient for case in cases}) for name, (_, cases) in members.items()
                },
            )
        )
    return entries


def verify_partition(workspace: Path, made: Partition) -> None:
    """Read every shard back: no patient, and no group of near copies, may stand in two sets anywhere.

    Raises:
        FlamesError: naming the patient and both sets.
    """
    for identity in ("patient", "group"):
        found: dict[str, list[str]] = {}
        for shard in made.shards:
            for set_name, (info, cases) in read_shard_cases(workspace / shard).items():
                found[f"{shard}:{set_name}"] = [f"{info.dataset}/{getattr(case, identity)}" for case in cases]
        if overlaps := find_overlaps(found):
            patient, one, other = overlaps[0]
            raise FlamesError(
                f"{identity} {patient} is in {one} and in {other}; preprocess the data set again"
            )


def _remove_strangers(shards: Path, made: Partition) -> None:
    """Shards of an earlier partition would be mistaken for this one's."""
    known = {Path(shard).name for shard in made.shards}
    for path in shards.glob("*.h5"):
        if path.name not in known:
            path.unlink()
