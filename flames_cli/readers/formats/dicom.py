"""Read DICOM volumes, which are series of slices, turned to RAS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset

from flames_cli.arrays import Floats, Pixels
from flames_cli.core.imaging.volumes import to_ras
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import (
    SEGMENTATIONS,
    count_bytes,
    list_files,
    read_header,
    require_plain_labels,
)
from flames_cli.readers.formats.dicom_pixels import read_frames
from flames_cli.readers.formats.dicom_planes import (
    Plane,
    describe_planes,
    has_position,
    is_slice,
    require_hounsfield,
)
from flames_cli.readers.formats.nifti import MAX_BYTES
from flames_cli.readers.formats.volumes import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

EVEN = 0.2
"""Largest distance, in spacings, of a slice from its regular position: a missing slice gives 1."""

ALIKE = 1e-3
"""Largest difference between slices in direction cosines, and in mm between pixels."""


def read_series(path: Path, labels: bool = False, files: Sequence[Path] = ()) -> Volume:
    """Return the volume of one series: a folder with one file per slice, or one file of one or more slices.

    Values are rescaled by slope and intercept (CT: to HU). MONOCHROME1 is inverted, except in CT, whose HU do
    not depend on the display.

    Args:
        path: the folder or the file.
        labels: True if the series is a mask; its stored values are returned.
        files: the files of the series, if it shares the folder with others; none: all in the folder.

    Raises:
        BadCase: there are several series or patients; slices are missing, repeated, uneven or of different
            kinds; the images are in colour or a segmentation; CT is not in HU; or a file cannot be decoded.
    """
    series = arrange_series(path, labels, files)
    axes = "".join(nib.aff2axcodes(series.affine))
    return Volume(to_ras(_stack(series.planes, labels), axes), series.affine, axes, series.remarks)


@dataclass(frozen=True, slots=True)
class Series:
    """Slices of one series, not yet decoded."""

    planes: list[Plane]
    """Slices in the order in which a volume stores them: along their normal."""
    affine: Floats
    """Matrix from column, row and slice index to mm (RAS), 4×4."""
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of columns, rows and slices."""
        rows, columns = self.planes[0].shape
        return columns, rows, len(self.planes)


def arrange_series(path: Path, labels: bool = False, files: Sequence[Path] = ()) -> Series:
    """Return the slices of one series in order; arguments and errors are those of `read_series`."""
    files = list(files) or list_files(path)
    headers = [read_header(file) for file in files]
    _require_one_series(path, headers)
    _require_slices(path, headers)
    if sum(count_bytes(header) for header in headers) > MAX_BYTES:
        raise BadCase(f"{path.name}: its headers claim more than {MAX_BYTES // 2**30} GiB of voxels")
    described = [describe_planes(file, header) for file, header in zip(files, headers, strict=True)]
    if labels:
        for file, header in zip(files, headers, strict=True):
            require_plain_labels(file, header)
    remarks = () if labels else _require_units(files, headers, described)
    planes = [plane for some in described for plane in some]
    _require_alike(path, planes)
    normal = planes[0].normal
    planes.sort(key=lambda plane: float(plane.position @ normal))
    return Series(planes, LPS_TO_RAS @ plane_affine(planes[0], _step(path, planes)), remarks)


def _require_slices(path: Path, headers: Sequence[Dataset]) -> None:
    if len(headers) > 1 and not any(has_position(header) or is_slice(header) for header in headers):
        raise BadCase(
            f"{path.name}: it contains {len(headers)} stills without a position, expected the slices of one "
            "series; list each file in a row of its own"
        )


def _require_units(
    files: Sequence[Path], headers: Sequence[Dataset], planes: Sequence[Sequence[Plane]]
) -> tuple[str, ...]:
    """Check the units of all files of CT; return remarks, each once."""
    found = map(require_hounsfield, files, headers, planes)
    return tuple(dict.fromkeys(remark for remarks in found for remark in remarks))


def _require_one_series(path: Path, headers: Sequence[Dataset]) -> None:
    counts: dict[str, int] = {}
    for header in headers:
        uid = str(header.get("SeriesInstanceUID"))[:64]
        counts[uid] = counts.get(uid, 0) + 1
    if len(counts) > 1:
        named = ", ".join(f"{uid} ({count} files)" for uid, count in list(counts.items())[:3])
        more = ", …" if len(counts) > 3 else ""
        raise BadCase(
            f"{path.name}: it contains {len(counts)} series, {named}{more}; give each its own folder"
        )
    for keyword, name in (("PatientID", "patients"), ("FrameOfReferenceUID", "frames of reference")):
        values = {str(header.get(keyword) or "").strip() for header in headers} - {""}
        if len(values) > 1:
            raise BadCase(
                f"{path.name}: its files are of {len(values)} {name} ({keyword}), expected one; sort them, "
                "or export the series again"
            )
    if any(header.get("SOPClassUID") in SEGMENTATIONS for header in headers):
        raise BadCase(
            f"{path.name}: it is a segmentation, or contains one, expected images; list it as a mask, and "
            "several files one by one, separated by ;"
        )


def _require_alike(path: Path, planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if plane.shape != first.shape:
            raise BadCase(
                f"{path.name}: {label_plane(plane)} is {plane.shape}, {label_plane(first)} {first.shape}; "
                "a series has slices of one size"
            )
        same = np.allclose(plane.orientation, first.orientation, rtol=0, atol=ALIKE)
        if not (same and np.allclose(plane.spacing_mm, first.spacing_mm, rtol=0, atol=ALIKE)):
            raise BadCase(
                f"{path.name}: {label_plane(plane)} and {label_plane(first)} differ in direction or spacing; "
                "take out localizers and other scans"
            )


def label_plane(plane: Plane) -> str:
    """Return the name of a slice for messages: its file, and its frame if it is not the first."""
    return plane.path.name + (f" frame {plane.frame + 1}" if plane.frame else "")


def _step(path: Path, planes: Sequence[Plane]) -> Floats:
    """Return the vector from one slice to the next, in mm in LPS; the planes are sorted."""
    if len(planes) == 1:
        return planes[0].normal * planes[0].thickness_mm
    gaps = np.diff([plane.position for plane in planes], axis=0)
    sizes = np.linalg.norm(gaps, axis=1)
    if sizes.min() < ALIKE:
        between = _between(planes, int(sizes.argmin()))
        raise BadCase(f"{path.name}: {between} have the same position; keep one scan of one time and echo")
    usual = np.median(gaps, axis=0)
    size = float(np.linalg.norm(usual))
    off = np.linalg.norm(gaps - usual, axis=1)
    worst = int(off.argmax())
    if off[worst] > EVEN * size:
        raise BadCase(
            f"{path.name}: slices are missing or uneven: {_between(planes, worst)} are {sizes[worst]:.2f} mm "
            f"apart, others {size:.2f}; complete the series, or resample it"
        )
    mean: Floats = gaps.mean(axis=0)
    return mean


def _between(planes: Sequence[Plane], index: int) -> str:
    return f"{label_plane(planes[index])} and {label_plane(planes[index + 1])}"


def plane_affine(first: Plane, step: Floats) -> Floats:
    """Return the 4×4 matrix from column, row and slice index to mm in LPS."""
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing_mm[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return affine


def _stack(planes: Sequence[Plane], labels: bool) -> Pixels:
    """Return the voxels as columns×rows×slices; one file is in memory at a time."""
    voxels: Pixels = np.empty((len(planes), *planes[0].shape), np.int16)
    members: dict[Path, list[int]] = {}
    for index, plane in enumerate(planes):
        members.setdefault(plane.path, []).append(index)
    for path, indices in members.items():
        frames = read_frames(path, labels)
        for index in indices:
            stored = frames[planes[index].frame]
            values = stored if labels else planes[index].intensities(stored)
            if voxels.dtype == np.int16 and not _fits(values):
                voxels = voxels.astype(np.float32)
            voxels[index] = values
    return voxels.transpose(2, 1, 0)


def _fits(values: Pixels) -> bool:
    """Return True if int16 can represent all values, such as a CT's HU, in half of the memory of float32."""
    with np.errstate(invalid="ignore"):
        return bool((values.astype(np.int16) == values).all())
