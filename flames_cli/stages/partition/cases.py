"""Preprocessed data sets of a partition: their cases, their place in the files, and data sets that share
patients."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.core.splits import SETS, SplitUnit
from flames_cli.errors import FlamesError
from flames_cli.readers import ALIASES, READERS
from flames_cli.store.cases import CaseInfo, SetInfo
from flames_cli.store.h5 import Selection, read_preprocessed_cases


@dataclass(frozen=True, slots=True)
class PlacedCase:
    """A case, and its place in its data set's file."""

    set_name: str
    index: int
    case: CaseInfo


@dataclass(frozen=True, slots=True)
class DataSet:
    """A preprocessed data set, or the part of it that a partition uses."""

    path: Path
    info: SetInfo
    cases: Sequence[PlacedCase]

    @property
    def name(self) -> str:
        """The name of the data set, which is also that of its file."""
        return self.info.dataset

    @property
    def collection(self) -> str:
        """The name that data sets with common patients share; the data set's own name if it shares none."""
        return self.info.collection or self.info.dataset

    def of_clients(self) -> list[PlacedCase]:
        """Return all cases except the server's."""
        return [placed for placed in self.cases if placed.set_name != "server_test"]


def read_dataset(path: Path) -> DataSet:
    """Return the cases of a preprocessed file, without pixels.

    Raises:
        FlamesError: it cannot be read, or belongs to another data set.
    """
    info, sets = read_preprocessed_cases(path)
    if info.dataset.lower() != path.stem.lower():
        raise FlamesError(
            f"{path} contains {info.dataset}, expected {path.stem}; rename the file, or make it again with "
            f"`flames preprocess --overwrite`"
        )
    cases = [PlacedCase(name, index, case) for name in SETS for index, case in enumerate(sets[name])]
    return DataSet(path, info, cases)


def by_collection(datasets: Iterable[DataSet]) -> list[list[DataSet]]:
    """Return the data sets that share patients together, in order of the first of each."""
    collections: dict[str, list[DataSet]] = {}
    for dataset in datasets:
        collections.setdefault(dataset.collection, []).append(dataset)
    return list(collections.values())


def reader_name(name: str) -> str:
    """Return the name of the reader that has `name` among its names; `name` itself if no reader has.

    No reader is loaded: a data set can be divided without the plug-in that read it.
    """
    lower = name.lower()
    known = ALIASES.get(lower, lower)
    return known if known in READERS else name


def find_named(option: str, name: str, datasets: Sequence[DataSet]) -> list[DataSet]:
    """Return the data set called `name`, or those of the collection called so.

    Raises:
        FlamesError: neither is among `datasets`; the message names `option`.
    """
    for asked in (name, reader_name(name)):
        if found := [dataset for dataset in datasets if dataset.name.lower() == asked.lower()]:
            return found
    if found := [dataset for dataset in datasets if dataset.collection.lower() == name.lower()]:
        return found
    listed = ", ".join(dataset.name for dataset in datasets)
    raise FlamesError(f"{option} names '{name}', which is not among the data sets {listed}")


def select(dataset: DataSet, cases: Iterable[PlacedCase]) -> Selection:
    """Return the places of `cases` in the data set's file, in its order."""
    indices: dict[str, list[int]] = {name: [] for name in SETS}
    for placed in cases:
        indices[placed.set_name].append(placed.index)
    return Selection(dataset.path, {name: chosen for name, chosen in indices.items() if chosen})


def weigh(cases_of: Mapping[str, Iterable[PlacedCase]]) -> dict[str, SplitUnit]:
    """Return the size of every unit, over all data sets of `cases_of`; its images are the selected ones.

    The units are in order of the data sets' names, and within a data set in order of appearance, so that
    draws depend neither on a site's salt nor on the order in which the data sets are listed.
    """
    images: Counter[str] = Counter()
    patients: dict[str, set[str]] = {}
    datasets: dict[str, set[str]] = {}
    for name in sorted(cases_of):
        for placed in cases_of[name]:
            images[placed.case.split_unit] += placed.case.selected
            patients.setdefault(placed.case.split_unit, set()).add(placed.case.patient)
            datasets.setdefault(placed.case.split_unit, set()).add(name)
    return {
        unit: SplitUnit(images=images[unit], patients=len(own), datasets=frozenset(datasets[unit]))
        for unit, own in patients.items()
    }


def selected_of(cases: Iterable[PlacedCase]) -> list[PlacedCase]:
    """Return the cases that count as images: stills, and the selected slices of volumes."""
    return [placed for placed in cases if placed.case.selected]


def count_slices(cases: Iterable[PlacedCase]) -> tuple[int, int]:
    """Return the number of volumes among `cases`, and of all their slices."""
    volumes = [placed.case.volume for placed in cases if placed.case.volume]
    return len(set(volumes)), len(volumes)


def patients_of(cases: Iterable[PlacedCase]) -> list[str]:
    """Return each patient once, sorted."""
    return sorted({placed.case.patient for placed in cases})
