"""Read DICOM volumes: a series of slices, or a segmentation (DICOM-SEG), turned to RAS."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from flames_cli.arrays import Floats, Pixels
from flames_cli.core.imaging.volumes import to_ras
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_files import count_bytes, list_files, read_frames, read_header
from flames_cli.readers.formats.dicom_planes import Plane, describe_planes
from flames_cli.readers.formats.nifti import MAX_BYTES
from flames_cli.readers.formats.volumes import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

EVEN = 0.2
"""Largest distance, in spacings, of a slice from its regular position: a missing slice gives 1."""

ALIKE = 1e-3
"""Largest difference between slices in direction cosines, and in mm between pixels."""

ON_GRID = 0.25
"""Largest distance, in voxels, between a segmentation's voxels and those of its image."""


def read_series(path: Path, labels: bool = False) -> Volume:
    """Return the volume of one series: a folder with one file per slice, or one file of one or more slices.

    Values are rescaled by slope and intercept (CT: to HU). MONOCHROME1 is inverted, except in CT, whose HU do
    not depend on the display.

    Args:
        path: the folder or the file.
        labels: True if the series is a mask; its stored values are returned.

    Raises:
        BadCase: there are several series; slices are missing, double, uneven or of different kinds; the
            images are in colour; or a file cannot be decoded.
    """
    files = list_files(path)
    headers = [read_header(file) for file in files]
    _require_one_series(path, headers)
    if sum(count_bytes(header) for header in headers) > MAX_BYTES:
        raise BadCase(f"{path.name}: its headers claim more than {MAX_BYTES // 2**30} GiB of voxels")
    planes = [
        plane for file, header in zip(files, headers, strict=True) for plane in describe_planes(file, header)
    ]
    _require_alike(path, planes)
    normal = planes[0].normal
    planes.sort(key=lambda plane: float(plane.position @ normal))
    affine = LPS_TO_RAS @ _affine(planes[0], _step(path, planes))
    axes = "".join(nib.aff2axcodes(affine))
    return Volume(to_ras(_stack(planes, labels), axes), affine, axes)


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


def _require_alike(path: Path, planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if plane.shape != first.shape:
            raise BadCase(
                f"{path.name}: {_label(plane)} is {plane.shape}, {_label(first)} {first.shape}; "
                "a series has slices of one size"
            )
        same = np.allclose(plane.orientation, first.orientation, rtol=0, atol=ALIKE)
        if not (same and np.allclose(plane.spacing_mm, first.spacing_mm, rtol=0, atol=ALIKE)):
            raise BadCase(
                f"{path.name}: {_label(plane)} and {_label(first)} differ in direction or spacing; "
                "take out localizers and other scans"
            )


def _label(plane: Plane) -> str:
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
    return f"{_label(planes[index])} and {_label(planes[index + 1])}"


def _affine(first: Plane, step: Floats) -> Floats:
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
        frames = read_frames(path)
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


def read_segmentation(path: Path, like: Volume) -> Volume:
    """Return the union of the segments of a DICOM-SEG as 0 and 1, on the voxels of `like`.

    Raises:
        BadCase: the file cannot be read, is fractional, or its voxels are not those of the image.
    """
    file = list_files(path)[0]
    header = read_header(file)
    if header.get("SegmentationType") == "FRACTIONAL":
        raise BadCase(
            f"{file.name}: it is a segmentation of fractions, expected a binary one; export it as such"
        )
    marked = np.zeros(like.file_shape, np.uint8)
    for plane, frame in zip(describe_planes(file, header), read_frames(file), strict=True):
        marked[_voxels(plane, frame, like)] = 1
    return Volume(to_ras(marked, like.axes), like.affine, like.axes)


def _voxels(plane: Plane, frame: Pixels, like: Volume) -> tuple[NDArray[np.int64], ...]:
    """Return the voxel indices of the marked pixels of one frame, in the file order of `like`."""
    step = plane.normal * (plane.between_mm or plane.thickness_mm)
    to_voxel = np.linalg.inv(like.affine) @ LPS_TO_RAS @ _affine(plane, step)
    sizes = np.linalg.norm(to_voxel[:3, : 3 if plane.between_mm else 2], axis=0)
    rows, columns = np.nonzero(frame)
    points = to_voxel[:3, :2] @ np.stack([columns, rows]) + to_voxel[:3, 3:]
    nearest = np.rint(points).astype(np.int64)
    if np.abs(sizes - 1).max() > EVEN or np.abs(points - nearest).max(initial=0) > ON_GRID:
        raise BadCase(
            f"{_label(plane)}: the segmentation is between its image's voxels; resample it onto them"
        )
    if (nearest < 0).any() or (like.file_shape <= nearest.T).any():
        raise BadCase(f"{_label(plane)}: the segmentation reaches beyond its image; is it another image's?")
    return tuple(nearest)
