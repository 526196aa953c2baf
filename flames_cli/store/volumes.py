"""Volumes among the cases of a file: their slices in order, whether all are there, and their voxels in mm."""

from collections.abc import Iterable
from dataclasses import dataclass

from flames_cli.core.imaging.geometry import pixel_after_square
from flames_cli.core.imaging.volumes import Placement
from flames_cli.store.cases import CaseInfo


@dataclass(frozen=True, slots=True)
class StoredVolume:
    """Slices of one volume that are stored, as squares of one size."""

    dataset: str
    name: str
    """Name that is unique within the data set (see `CaseInfo.volume`)."""
    patient: str
    indices: tuple[int, ...]
    """Numbers of its slices in the list of cases that was searched, by index along the plane's axis."""
    slices: tuple[int, ...]
    """Indices of these slices along the plane's axis, ascending."""
    place: Placement
    """Position of the first of these slices."""
    spacing_mm: tuple[float, float]
    """Distance between raw rows and between raw columns, mm."""
    raw_shape: tuple[int, int]
    """Rows and columns of a raw slice."""

    @property
    def is_complete(self) -> bool:
        """True if every slice of the volume is there, once."""
        # A damaged file may state any number of slices: as many integers are made only if they are there.
        n = self.place.n_slices
        return len(self.slices) == n and self.slices == tuple(range(n))

    def stack_shape(self, size: int) -> tuple[int, int, int]:
        """Return the shape of its stored slices on each other, at `size`×`size`: slices, rows, columns."""
        return len(self.slices), size, size

    def voxel_mm(self, size: int) -> tuple[float, float, float]:
        """Return the size of a voxel of that stack in mm: from slice to slice, of a row, and of a column.

        A number is NaN where the file does not state the spacing.
        """
        return self.place.slice_distance_mm, *pixel_after_square(self.spacing_mm, self.raw_shape, size)


def find_volumes(cases: Iterable[tuple[str, CaseInfo]]) -> list[StoredVolume]:
    """Return the volumes of `cases`, given as (data set, case), in order of their first slices.

    Still images are left out.
    """
    members: dict[tuple[str, str], list[tuple[Placement, int, CaseInfo]]] = {}
    for number, (dataset, case) in enumerate(cases):
        if case.place:
            members.setdefault((dataset, case.volume), []).append((case.place, number, case))
    return [_volume(dataset, name, own) for (dataset, name), own in members.items()]


def _volume(dataset: str, name: str, members: list[tuple[Placement, int, CaseInfo]]) -> StoredVolume:
    ordered = sorted(members, key=lambda member: (member[0].index, member[1]))
    place, _, case = ordered[0]
    return StoredVolume(
        dataset=dataset,
        name=name,
        patient=case.patient,
        indices=tuple(number for _, number, _ in ordered),
        slices=tuple(place.index for place, _, _ in ordered),
        place=place,
        spacing_mm=case.spacing_mm,
        raw_shape=case.raw_shape,
    )
