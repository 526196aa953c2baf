"""Read DICOM segmentations (DICOM-SEG) on the voxels of their images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.volumes import to_ras
from flames_cli.readers.base import BadCase, UnchosenLabels
from flames_cli.readers.formats.dicom import EVEN, LPS_TO_RAS, label_plane, plane_affine
from flames_cli.readers.formats.dicom_files import LABEL_MAP, list_files, named_errors, read_header
from flames_cli.readers.formats.dicom_pixels import read_frames
from flames_cli.readers.formats.dicom_planes import Plane, describe_planes
from flames_cli.readers.formats.volumes import Volume

ON_GRID = 0.25
"""Largest distance, in voxels, between a segmentation's voxels and those of its image."""

TUMOUR = re.compile(r"tumou?r|lesion|cancer|carcinom|sarcom|neoplas|metasta|gtv", re.IGNORECASE)
"""Words in the names of segments that a message gives as an example of a choice; none of them decides."""

LISTED = 12
"""Largest number of segments that a message lists."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Segments of one file, not yet placed on an image."""

    names: Mapping[int, str]
    """Label of each segment by its number, without the background."""
    numbers: tuple[int, ...]
    """Number of the segment of each frame; 0 in a label map, whose values are the numbers."""
    frames: NDArray[np.integer]
    """Frames×rows×columns, as stored."""

    def choose(self, path: Path, labels: Sequence[str]) -> frozenset[int]:
        """Return the numbers of the segments that are tumour.

        Args:
            path: the file, for messages.
            labels: chosen names (in upper or lower case) or numbers; none: the only segment.

        Raises:
            UnchosenLabels: there are several segments, and no labels.
        """
        if labels:
            return frozenset(number for label in labels for number in self._find(label))
        if len(self.names) > 1:
            raise self._ask(path)
        return frozenset(self.names)

    def present(self, labels: Sequence[str]) -> frozenset[str]:
        """Return those of the labels that a segment has."""
        return frozenset(label for label in labels if self._find(label))

    def _find(self, label: str) -> set[int]:
        wanted = _plain(label)
        if wanted.isdecimal() and int(wanted) in self.names:
            return {int(wanted)}
        return {number for number, name in self.names.items() if _plain(name) == wanted}

    def _ask(self, path: Path) -> UnchosenLabels:
        areas = self._areas()
        listed = [f'{number} "{name}" ({areas[number]:,} px)' for number, name in self.names.items()]
        more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        # Where no name says so: organs are usually larger than their tumours.
        likely = min(
            self.names, key=lambda number: (not TUMOUR.search(self.names[number]), areas[number] or np.inf)
        )
        return UnchosenLabels(
            f"{path.name}: it contains {len(listed)} segments, {', '.join(listed[:LISTED])}{more}; "
            "expected one, or the choice of those that are tumour; pass the name or number of each, such as "
            f'--labels "{self.names[likely] or likely}", or fill the column labels of the manifest'
        )

    def _areas(self) -> dict[int, int]:
        areas = dict.fromkeys(self.names, 0)
        for index in range(len(self.numbers)):
            for number in self.names:
                areas[number] += int(np.count_nonzero(self.marked(index, frozenset({number}))))
        return areas

    def marked(self, index: int, chosen: frozenset[int]) -> Pixels:
        """Return True where frame `index` (rows×columns) shows one of the chosen segments."""
        frame = self.frames[index]
        if not self.numbers[index]:
            return np.isin(frame, list(chosen))
        return frame != 0 if self.numbers[index] in chosen else np.zeros(frame.shape, bool)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def read_segmentation(path: Path, like: Volume, labels: Sequence[str] = ()) -> tuple[Volume, frozenset[str]]:
    """Return the chosen segments of a DICOM-SEG as 0 and 1 on the voxels of `like`, and the labels found.

    Args:
        path: the file, or a folder with this file alone.
        like: the image.
        labels: see `Segments.choose`.

    Raises:
        BadCase: the file cannot be read, is fractional, has several segments of which none is chosen, or its
            voxels are not those of the image.
    """
    file = list_files(path)[0]
    header = read_header(file)
    segments = read_segments(file, header)
    chosen = segments.choose(file, labels)
    marked = np.zeros(like.file_shape, np.uint8)
    for index, plane in enumerate(describe_planes(file, header)):
        marked[_voxels(plane, segments.marked(index, chosen), like)] = 1
    return Volume(to_ras(marked, like.axes), like.affine, like.axes), segments.present(labels)


def read_segments(file: Path, header: Dataset) -> Segments:
    """Return the segments of a file.

    Raises:
        BadCase: the segmentation is fractional, or cannot be read.
    """
    kind, is_map = header.get("SegmentationType"), header.get("SOPClassUID") == LABEL_MAP
    frames = read_frames(file, labels=True)
    is_binary = is_map or ((frames == 0) | (frames == frames.max())).all()
    if kind == "FRACTIONAL" or not is_binary:
        raise BadCase(
            f"{file.name}: it is a segmentation of fractions, expected a binary one; export it as such"
        )
    with named_errors(file):
        names = {
            int(item.SegmentNumber): str(item.get("SegmentLabel") or "").strip()[:64]
            for item in header.get("SegmentSequence") or []
        }
        numbers = tuple(0 if is_map else number_of_frame(header, index) for index in range(len(frames)))
        background = {0, int(header.get("PixelPaddingValue") or 0)} if is_map else {0}
        used = np.unique(frames).tolist() if is_map else numbers
    named = {**dict.fromkeys(used, ""), **names}
    known = {number: named[number] for number in sorted(named) if number not in background}
    return Segments(known, numbers, frames)


def number_of_frame(header: Dataset, index: int) -> int:
    """Return the number of the segment that frame `index` shows."""
    groups = [*(header.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]]
    groups += header.get("SharedFunctionalGroupsSequence") or []
    found = (item for group in groups for item in group.get("SegmentIdentificationSequence") or [])
    return next((int(item.ReferencedSegmentNumber) for item in found), 1)


def _voxels(plane: Plane, frame: Pixels, like: Volume) -> tuple[NDArray[np.int64], ...]:
    """Return the voxel indices of the marked pixels of one frame, in the file order of `like`."""
    step = plane.normal * (plane.between_mm or plane.thickness_mm)
    to_voxel = np.linalg.inv(like.affine) @ LPS_TO_RAS @ plane_affine(plane, step)
    across = int(np.abs(to_voxel[:3, 2]).argmax())
    # The distance of slices has no meaning in an image of one; highdicom then states 1 mm.
    has_distance = bool(plane.between_mm) and like.file_shape[across] > 1
    sizes = np.linalg.norm(to_voxel[:3, :2], axis=0)
    if has_distance:
        # In a tilted series, the normal of the slices also leads along their rows and columns.
        sizes = np.append(sizes, abs(to_voxel[across, 2]))
    rows, columns = np.nonzero(frame)
    points = to_voxel[:3, :2] @ np.stack([columns, rows]) + to_voxel[:3, 3:]
    nearest = np.rint(points).astype(np.int64)
    if np.abs(sizes - 1).max() > EVEN or np.abs(points - nearest).max(initial=0) > ON_GRID:
        raise BadCase(
            f"{label_plane(plane)}: the segmentation is between its image's voxels; resample it onto them"
        )
    if (nearest < 0).any() or (like.file_shape <= nearest.T).any():
        raise BadCase(
            f"{label_plane(plane)}: the segmentation reaches beyond its image; check whether it belongs to "
            "another image"
        )
    return tuple(nearest)
