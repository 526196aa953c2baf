"""The preprocessed data sets of a partition: their cases, where each lies, and who shares patients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.core.splits import SETS, SplitUnit
from flames_cli.errors import FlamesError
from flames_cli.readers import find_reader
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.h5 import Selection, read_preprocessed_cases


@dataclass(frozen=True, slots=True)
class Member:
    """A case, and where it lies in its data set's file."""

    set_name: str
    index: int
    case: CaseInfo


@dataclass(frozen=True, slots=True)
class DataSet:
    """A preprocessed data set, or what a partition takes of it."""

    path: Path
    info: SetInfo
    members: Sequence[Member]

    @property
    def name(self) -> str:
        """As its file."""
        return self.info.dataset

    @property
    def collection(self) -> str:
        """What shares its patients with other data sets; itself where nothing does."""
        return self.info.collection or self.info.dataset

    def of_clients(self) -> list[Member]:
        """All but the server's."""
        return [member for member in self.members if member.set_name != "server_test"]


def read_dataset(path: Path) -> DataSet:
    """The cases of a preprocessed file, without pixels.

    Raises:
        FlamesError: it cannot be read, or is another data set's.
    """
    info, sets = read_preprocessed_cases(path)
    if info.dataset.lower() != path.stem.lower():
        raise FlamesError(
            f"{path} holds {info.dataset}, not {path.stem}; give it back its name, or make it again with "
            f"`flames preprocess --overwrite`"
        )
    members = [Member(name, index, case) for name in SETS for index, case in enumerate(sets[name])]
    return DataSet(path, info, members)


def by_collection(datasets: Iterable[DataSet]) -> list[list[DataSet]]:
    """Those that share patients together, in order of the first of each."""
    collections: dict[str, list[DataSet]] = {}
    for dataset in datasets:
        collections.setdefault(dataset.collection, []).append(dataset)
    return list(collections.values())


def reader_name(name: str) -> str:
    """The name of the reader that has `name` among its names; `name` itself where none has."""
    reader = find_reader(name)
    return reader.name if reader else name


def find_named(option: str, name: str, datasets: Sequence[DataSet]) -> list[DataSet]:
    """The data set called `name`, or those of the collection called so.

    Raises:
        FlamesError: neither is among `datasets`; `option` says who asks.
    """
    for asked in (name, reader_name(name)):
        if found := [dataset for dataset in datasets if dataset.name.lower() == asked.lower()]:
            return found
    if found := [dataset for dataset in datasets if dataset.collection.lower() == name.lower()]:
        return found
    listed = ", ".join(dataset.name for dataset in datasets)
    raise FlamesError(f"{option} names '{name}', which is not among the data sets {listed}")


def select(dataset: DataSet, members: Iterable[Member]) -> Selection:
    """Where `members` lie in the data set's file, in its order."""
    indices: dict[str, list[int]] = {name: [] for name in SETS}
    for member in members:
        indices[member.set_name].append(member.index)
    return Selection(dataset.path, {name: chosen for name, chosen in indices.items() if chosen})


def weigh(members_of: Mapping[str, Iterable[Member]]) -> dict[str, SplitUnit]:
    """How much every unit weighs, in `members_of` data sets together: in order of the data sets' names, and
    in each of appearance, so that draws depend neither on a site's salt nor on how the data sets are listed.
    """
    patients: dict[str, list[str]] = {}
    datasets: dict[str, set[str]] = {}
    for name in sorted(members_of):
        for member in members_of[name]:
            patients.setdefault(member.case.split_unit, []).append(member.case.patient)
            datasets.setdefault(member.case.split_unit, set()).add(name)
    return {
        unit: SplitUnit(images=len(listed), patients=len(set(listed)), datasets=frozenset(datasets[unit]))
        for unit, listed in patients.items()
    }


def patients_of(members: Iterable[Member]) -> list[str]:
    """Each patient once, sorted."""
    return sorted({member.case.patient for member in members})
