"""Slices of volumes, and volumes from slices. X Y Z voxels in RAS (right, anterior, superior); H W pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Index of the RAS axis perpendicular to each plane."""

_OPPOSITE = {"R": "L", "A": "P", "S": "I"}


@dataclass(frozen=True, slots=True)
class Placement:
    """Position of a slice in its volume's file, sufficient to put its mask back."""

    plane: str
    """Name of the plane, one of PLANES."""
    index: int
    """Index along the plane's axis, in RAS."""
    shape: tuple[int, int, int]
    """Shape of the volume in its file."""
    axes: str
    """Axis codes in its file, such as LPS."""
    affine: tuple[float, ...]
    """Matrix from voxel indices of the file to mm (RAS), 4×4 row by row."""

    @property
    def n_slices(self) -> int:
        """Number of slices of the volume along the plane's axis."""
        return self.shape[self._axis]

    @property
    def slice_distance_mm(self) -> float:
        """Distance from one slice to the next, gaps between slices included; NaN if the file states none."""
        distance = float(np.linalg.norm(np.reshape(self.affine, (4, 4))[:3, self._axis]))
        return distance if distance > 0 else math.nan

    @property
    def _axis(self) -> int:
        """Index of the plane's axis among the axes of the file."""
        return ras_order(self.axes)[PLANES[self.plane]]


def are_axes(codes: str) -> bool:
    """Return whether `codes` are the axis codes of a volume, such as LPS."""
    return len(codes) == 3 and all(sum(code in pair for code in codes) == 1 for pair in _OPPOSITE.items())


def to_ras(voxels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a view of `voxels` (3 axes with the codes `axes`) as X×Y×Z in RAS."""
    order, flips = _turn(axes)
    return voxels.transpose(order)[flips]


def from_ras(volume: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return a view of `volume` (X×Y×Z in RAS) with the axis codes `axes`, the inverse of `to_ras`."""
    order, flips = _turn(axes)
    return volume[flips].transpose(np.argsort(order))


def ras_order(axes: str) -> list[int]:
    """Return the indices of the right-left, front-back and up-down axes of a volume with codes `axes`."""
    return [next(i for i, code in enumerate(axes) if code in pair) for pair in _OPPOSITE.items()]


def _turn(axes: str) -> tuple[list[int], tuple[slice, ...]]:
    """Return `ras_order`, and slices that reverse those axes that run against RAS."""
    order = ras_order(axes)
    flips = tuple(slice(None, None, -1) if axes[i] in _OPPOSITE.values() else slice(None) for i in order)
    return order, flips


def take_slice(volume: Pixels, plane: str, index: int) -> Pixels:
    """Return a view of one H×W slice of a volume in RAS, turned by 90° (as FLAMES shows axial slices)."""
    return np.rot90(np.moveaxis(volume, PLANES[plane], 2)[:, :, index])


def restore_volume(masks: Mapping[int, NDArray[Any]], placement: Placement) -> NDArray[Any]:
    """Return the mask of a complete volume, with the axes of its file, from the masks of its slices.

    Args:
        masks: H×W masks, or maps of other numbers, by index along the plane's axis, in the size of the raw
            slices; slices without one are 0.
        placement: position of any of those slices.

    Raises:
        ValueError: a mask does not have the size of the slices.
    """
    dtype = next((mask.dtype for mask in masks.values()), np.dtype(np.uint8))
    volume = to_ras(np.zeros(placement.shape, dtype), placement.axes)
    slices = np.moveaxis(volume, PLANES[placement.plane], 2)
    for index, mask in masks.items():
        turned = np.rot90(mask, -1)
        if turned.shape != slices.shape[:2]:
            raise ValueError(f"slice {index} is {turned.shape[::-1]}, expected {slices.shape[1::-1]}")
        slices[:, :, index] = turned
    return from_ras(volume, placement.axes)
