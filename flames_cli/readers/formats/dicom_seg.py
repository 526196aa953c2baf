"""Read DICOM segmentations (DICOM-SEG) on the voxels of their images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.volumes import to_ras
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom import EVEN, LPS_TO_RAS, label_plane, plane_affine
from flames_cli.readers.formats.dicom_files import list_files, read_frames, read_header
from flames_cli.readers.formats.dicom_planes import Plane, describe_planes
from flames_cli.readers.formats.volumes import Volume

ON_GRID = 0.25
"""Largest distance, in voxels, between a segmentation's voxels and those of its image."""


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
    to_voxel = np.linalg.inv(like.affine) @ LPS_TO_RAS @ plane_affine(plane, step)
    sizes = np.linalg.norm(to_voxel[:3, : 3 if plane.between_mm else 2], axis=0)
    rows, columns = np.nonzero(frame)
    points = to_voxel[:3, :2] @ np.stack([columns, rows]) + to_voxel[:3, 3:]
    nearest = np.rint(points).astype(np.int64)
    if np.abs(sizes - 1).max() > EVEN or np.abs(points - nearest).max(initial=0) > ON_GRID:
        raise BadCase(
            f"{label_plane(plane)}: the segmentation is between its image's voxels; resample it onto them"
        )
    if (nearest < 0).any() or (like.file_shape <= nearest.T).any():
        raise BadCase(
            f"{label_plane(plane)}: the segmentation reaches beyond its image; is it another image's?"
        )
    return tuple(nearest)
