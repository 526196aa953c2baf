"""Patients that a model has seen in training, compared with those on whom it is going to be tested.

Patients are compared by the pseudonyms in the shards. They cannot be compared if the partition is not in this
workspace, if their data set was preprocessed with another salt, or if the same images are in data sets of two
names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.core.words import count
from flames_cli.errors import FlamesError
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import read_shard_cases
from flames_cli.store.partition import NamedPartition, checked_shard, open_partition
from flames_cli.store.workspace import list_partitions, partition_file

TRAIN, VAL, TEST = "train", "val", "test"

Key = tuple[str, str]
"""Data set, or the name that it shares with others of the same patients, and a pseudonym.

The data set is empty where a pseudonym is one person in all data sets of a site."""


@dataclass(frozen=True, slots=True)
class People:
    """Patients by role: train, val or test; the server's patients are among those of the test."""

    keys: dict[str, dict[Key, set[Key]]] = field(default_factory=dict)
    """Names of each patient by role: its own, and that of the near copies that no split divides."""

    def add(self, role: str, info: SetInfo, cases: Iterable[CaseInfo], apart: bool) -> None:
        """Add the patients of `cases`; `apart`: the same id means another person in each data set."""
        found = self.keys.setdefault(role, {})
        place = info.collection or info.dataset
        everywhere = info.patient_unit == "patient" and not apart
        for case in cases:
            names = {(place, case.patient), (place, case.split_unit)}
            names |= {("", name) for _, name in names} if everywhere else set()
            found.setdefault((place, case.patient), set()).update(names)

    def names(self, *roles: str) -> set[Key]:
        """Return all names of the patients of some roles."""
        return {name for role in roles for names in self.keys.get(role, {}).values() for name in names}

    def count_among(self, role: str, names: set[Key]) -> int:
        """Return the number of patients of a role that have one of these names."""
        return sum(not own.isdisjoint(names) for own in self.keys.get(role, {}).values())

    @property
    def places(self) -> dict[str, set[str]]:
        """All pseudonyms by data set."""
        found: dict[str, set[str]] = {}
        for own in self.keys.values():
            for place, patient in own:
                found.setdefault(place, set()).add(patient)
        return found


def people_of_partition(partition: NamedPartition) -> People:
    """Return the patients of a partition.

    Raises:
        MissingArtifact: a shard is missing.
        FlamesError: a shard has changed.
    """
    found = People()
    apart = bool(partition.content.options.get("different_people"))
    for client in partition.content.clients:
        _add_shard(found, checked_shard(partition.folder, client), apart)
    for server in partition.content.server:
        _add_shard(found, checked_shard(partition.folder, server), apart)
    return found


def people_of_shard(path: Path) -> People:
    """Return the patients of one client's shard; raises as `read_shard_cases`."""
    found = People()
    _add_shard(found, path, apart=False)
    return found


def _add_shard(people: People, path: Path, apart: bool) -> None:
    for set_name, (info, cases) in read_shard_cases(path).items():
        people.add(set_name.partition("/")[0], info, cases, apart)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Partitions on whose patients a model was trained."""

    source: str
    """The model, as a message names it, such as run 'flames'."""
    partitions: tuple[str, ...] = ()
    """SHA-256 of each known partition."""
    unknown: str = ""
    """Reason why some or all of its patients are not known; empty: all are."""


def check_unseen(workspace: Path, made: Provenance, target: People, where: str, same: str = "") -> list[str]:
    """Check that no model has seen the test patients on which it is going to be tested, and return notes on
    what cannot be known.

    Args:
        workspace: workspace with the partitions.
        made: origin of the model.
        target: patients of the new training and its tests.
        where: their place, such as "partition 'new'".
        same: SHA-256 of the partition of `target`, whose tests no model that was trained on it has seen;
            empty: there is none.

    Raises:
        FlamesError: the model was trained on patients who are in the test or validation of `target`, or was
            chosen by patients of the test.
    """
    notes, there = [], _partitions(workspace)
    for sha256 in made.partitions:
        if sha256 == same:
            continue
        if sha256 not in there:
            notes.append(
                _not_known(made.source, where, "a partition of its training is not in this workspace")
            )
            continue
        partition = open_partition(workspace, there[sha256])
        try:
            people = people_of_partition(partition)
        except FlamesError:
            notes.append(
                _not_known(made.source, where, f"shards of partition '{partition.name}' are damaged")
            )
            continue
        _check(made.source, partition.name, people, target, where)
        if strangers := _find_strangers(people, target):
            why = f"no pseudonym of {', '.join(strangers)} is in partition '{partition.name}' and here"
            notes.append(_not_known(made.source, where, f"{why}, which is right unless the salt has changed"))
    if made.unknown:
        notes.append(_not_known(made.source, where, made.unknown))
    return list(dict.fromkeys(notes))


def _partitions(workspace: Path) -> Mapping[str, str]:
    """Return the names of all partitions by SHA-256."""
    found = {}
    for name in list_partitions(workspace):
        with suppress(OSError):
            found[hash_file(partition_file(workspace, name))] = name
    return found


def _check(source: str, partition: str, seen: People, target: People, where: str) -> None:
    """Raise FlamesError if `seen` was trained on patients of the tests of `target`."""
    in_test = target.count_among(TEST, seen.names(TRAIN, VAL))
    in_val = target.count_among(VAL, seen.names(TRAIN))
    found = [count(n, f"{what} patient") for n, what in ((in_test, "test"), (in_val, "validation")) if n]
    if found:
        raise FlamesError(
            f"{source} was trained on partition '{partition}', which has {' and '.join(found)} of {where} in "
            "its training or validation, expected none, since their scores would be too high; use a model of "
            "a run on the same partition, or partition again so that these patients train"
        )


def _find_strangers(seen: People, target: People) -> Sequence[str]:
    """Return the data sets that both have, without a common patient."""
    return [*_strangers(seen.places, target.places)]


def _strangers(seen: Mapping[str, set[str]], target: Mapping[str, set[str]]) -> Iterator[str]:
    for place, patients in target.items():
        if place in seen and patients.isdisjoint(seen[place]):
            yield place


def _not_known(source: str, where: str, why: str) -> str:
    return (
        f"it is not known whether {source} was trained on test patients of {where}: {why}; make sure that it "
        "was not, or its scores are too high"
    )
