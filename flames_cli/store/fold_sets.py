"""Sets of partitions that are the folds of one cross-validation, found by their names and their content."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.member_names import partition_name, split_partition_name
from flames_cli.store.partition import NamedPartition, Partition, open_partition
from flames_cli.store.workspace import list_partitions


def fold_numbers(partition: Partition) -> tuple[int, int] | None:
    """Return K and N of a partition that is fold K of N; None if it is no fold."""
    fold = partition.options.get("fold")
    if not isinstance(fold, str):
        return None
    k, _, n = fold.partition("/")
    return (int(k), int(n)) if k.isdecimal() and n.isdecimal() else None


def common_content(partition: Partition) -> str:
    """Return all that the folds of one cross-validation have in common: options, data and patients."""
    options = {key: value for key, value in partition.options.items() if key != "fold"}
    numbers = fold_numbers(partition)
    clients = [
        {
            "name": client.name,
            "dataset": client.dataset,
            "images": sum(client.images.values()),
            "patients": sorted({one for patients in client.patients.values() for one in patients}),
        }
        for client in partition.clients
    ]
    return json.dumps(
        {
            "folds": numbers and numbers[1],
            "options": options,
            "of_images": [partition.seed, partition.size, partition.channels],
            "clients": clients,
            "server": [asdict(server) for server in partition.server],
        },
        sort_keys=True,
    )


def are_folds_of_one(partitions: Iterable[Partition]) -> bool:
    """Return whether partitions are folds of one cross-validation: no patient of a client is tested twice."""
    partitions = list(partitions)
    same = len({common_content(one) for one in partitions}) == 1
    return same and all(fold_numbers(one) for one in partitions)


def choose_fold_set(workspace: Path, wanted: str) -> dict[int, str]:
    """Return the partition of each fold of the set called `wanted` (empty: the only set), by fold.

    Raises:
        MissingArtifact: there is no such set.
        FlamesError: there are several sets, a fold is missing, or the folds are not of one cross-validation.
    """
    sets: dict[str, dict[int, str]] = {}
    for name in list_partitions(workspace):
        folds, k = split_partition_name(name)
        if k is not None:
            sets.setdefault(folds, {})[k] = name
    if not sets or (wanted and wanted not in sets):
        known = f" (existing: {', '.join(sets)})" if sets else ""
        named = f" --name {wanted}" if wanted and wanted != "default" else ""
        which = f"set of folds '{wanted}'" if wanted else "set of folds"
        raise MissingArtifact(
            f"no {which} in {workspace / 'partitions'}{known}; make it with "
            f"`flames partition{named} --folds 5`"
        )
    if not wanted and len(sets) > 1:
        raise FlamesError(
            f"{workspace / 'partitions'} has several sets of folds ({', '.join(sets)}), and --folds names "
            f"none; pass the name of one, such as --folds {next(iter(sets))}"
        )
    chosen = wanted or next(iter(sets))
    return _checked(workspace, chosen, sets[chosen])


def _checked(workspace: Path, name: str, found: dict[int, str]) -> dict[int, str]:
    """Return the folds of a set in order, checked to be all folds of one cross-validation."""
    again = f"make all folds again with `flames partition{_option(name)} --folds N --overwrite`"
    opened = {k: open_partition(workspace, partition) for k, partition in sorted(found.items())}
    numbers = {k: fold_numbers(one.content) for k, one in opened.items()}
    for k, one in opened.items():
        if (numbers[k] or (0, 0))[0] != k:
            made = one.content.options.get("fold")
            what = f"fold {made}" if made else "no fold"
            raise FlamesError(f"partition '{one.name}' is {what}, expected fold {k}; {again}")
    n = max(number[1] for number in numbers.values() if number)
    if missing := [partition_name(name, k) for k in range(1, n + 1) if k not in found]:
        raise FlamesError(f"of {n} folds the partitions {', '.join(missing)} are missing; {again}")
    first, *others = opened.values()
    for other in others:
        if not are_folds_of_one([first.content, other.content]):
            raise FlamesError(
                f"partitions '{first.name}' and '{other.name}' were made of different data or with different "
                f"options, expected folds of one cross-validation; {again}"
            )
    return {k: one.name for k, one in opened.items()}


def _option(name: str) -> str:
    return "" if name == "default" else f" --name {name}"


def find_siblings(workspace: Path, partition: Partition) -> list[NamedPartition]:
    """Return all folds of the cross-validation of `partition`, whatever they are called; empty if it is no
    fold. Partitions that cannot be read are left out."""
    found = []
    for name in list_partitions(workspace):
        try:
            other = open_partition(workspace, name)
        except FlamesError:
            continue
        if are_folds_of_one([partition, other.content]):
            found.append(other)
    return found


def find_sibling(workspace: Path, partition: Partition, k: int) -> str | None:
    """Return the name of fold `k` of the cross-validation of `partition`; None if there is none."""
    siblings = find_siblings(workspace, partition)
    return next((one.name for one in siblings if (fold_numbers(one.content) or (0, 0))[0] == k), None)
