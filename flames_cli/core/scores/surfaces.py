"""Distances between the surfaces of two masks, in 2D and 3D, by scipy's distance transform. D H W voxels.

They equal MONAI's, with whose numbers tests compare them. MONAI itself is not used: its import alone takes
longer than a thousand images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.scores.metrics import Binary, checked_masks

PERCENTILE = 95

TOLERANCE_MM = 2.0
"""Tolerance of the normalised surface Dice in the tables, in mm."""


@dataclass(frozen=True, slots=True)
class SurfaceDistances:
    """Distances between two surfaces, in the unit of the spacing.

    A surface is all voxels of a mask with a neighbour outside it, where neighbours share a face (an edge in
    2D). Both distances are infinite if one mask is empty, and 0 if both are: then they agree.
    """

    hd95: float
    """Hausdorff distance with the 95th percentile for the maximum; the larger one of both directions."""
    assd: float
    """Mean over the voxels of both surfaces of the distance to the nearest voxel of the other one."""

    def scaled(self, factor: float) -> "SurfaceDistances":
        """Return the distances in another unit, `factor` of which are one of this unit."""
        return SurfaceDistances(self.hd95 * factor, self.assd * factor)


def surface_distances(pred: Binary, target: Binary, spacing: Sequence[float]) -> SurfaceDistances:
    """Return HD95 and ASSD of one case; both are symmetric.

    They equal `compute_hausdorff_distance(percentile=95)` and `compute_average_surface_distance(symmetric=
    True)` of MONAI.

    Args:
        pred: H×W or D×H×W.
        target: as `pred`.
        spacing: length of a voxel along each axis, such as millimetres; it may differ between axes.

    Raises:
        ValueError: the masks are not of one shape in 2D or 3D, contain other values than 0 and 1, or the
            spacing is not a positive number for each axis.
    """
    predicted, truth = checked_masks(pred, target, dims=(2, 3))
    lengths = _checked_spacing(spacing, predicted.ndim)
    if not predicted.any() or not truth.any():
        return SurfaceDistances(*[math.inf if predicted.any() or truth.any() else 0.0] * 2)
    own, other = (_surface(mask) for mask in _crop_to_both(predicted, truth))
    forth, back = _to_nearest(own, other, lengths), _to_nearest(other, own, lengths)
    hd95 = max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))
    return SurfaceDistances(float(hd95), float(np.concatenate([forth, back]).mean()))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion  # a tenth of a second, which most commands do not need

    surface: NDArray[np.bool_] = mask & ~binary_erosion(mask)
    return surface


def _to_nearest(start: NDArray[np.bool_], goal: NDArray[np.bool_], lengths: Sequence[float]) -> Floats:
    """Return the distance from each voxel of `start` to the nearest voxel of `goal`."""
    from scipy.ndimage import distance_transform_edt

    distances: Floats = distance_transform_edt(~goal, sampling=lengths)[start]
    return distances


def surface_dice(pred: Binary, target: Binary, spacing: Sequence[float], tolerance: float) -> float:
    """Return the normalised surface Dice (NSD) of one case, in [0, 1]; it is symmetric.

    It is the share of the area of both surfaces (length in 2D) that is at most `tolerance` from the other
    surface. Surfaces pass between voxels, as in Nikolov et al., J. Med. Internet Res. 23, 2021, and the area
    of each of their pieces is from the authors' own tables. The result is 0 if one mask is empty, and 1 if
    both are.

    Args:
        pred: H×W or D×H×W.
        target: as `pred`.
        spacing: as in `surface_distances`.
        tolerance: largest distance that is accepted, in the unit of the spacing.

    Raises:
        ValueError: as `surface_distances`, or the tolerance is negative or not finite.
    """
    predicted, truth = checked_masks(pred, target, dims=(2, 3))
    lengths = _checked_spacing(spacing, predicted.ndim)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"got a tolerance of {tolerance}, expected a finite number of 0 or more")
    if not predicted.any() or not truth.any():
        return 0.0 if predicted.any() or truth.any() else 1.0
    areas = _areas_of_codes(tuple(lengths))
    codes = [_corner_codes(mask) for mask in _crop_to_both(predicted, truth)]
    surfaces = [(code != 0) & (code != len(areas) - 1) for code in codes]
    near = total = 0.0
    for code, own, other in zip(codes, surfaces, reversed(surfaces), strict=True):
        area = areas[code[own]]
        near += float(area[_to_nearest(own, other, lengths) <= tolerance].sum())
        total += float(area.sum())
    return near / total


def _corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return, for each corner between voxels, the bits of the 4 (in 3D 8) voxels around it."""
    from scipy.ndimage import correlate
    from surface_distance import lookup_tables

    kernels = {
        2: lookup_tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL,
        3: lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL,
    }
    padded = np.pad(mask, [(0, 1)] * mask.ndim).astype(np.uint8)
    codes: NDArray[np.uint8] = correlate(padded, kernels[mask.ndim], mode="constant")
    return codes


@lru_cache(maxsize=64)
def _areas_of_codes(lengths: tuple[float, ...]) -> Floats:
    """Return the area (in 2D the length) of the surface at a corner, by its code."""
    from surface_distance import lookup_tables

    make = {
        2: lookup_tables.create_table_neighbour_code_to_contour_length,
        3: lookup_tables.create_table_neighbour_code_to_surface_area,
    }
    return np.asarray(make[len(lengths)](lengths), np.float64)


def _crop_to_both(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return both masks in the box around both, of which no surface depends on a voxel outside."""
    either = pred | target
    box = []
    for axis in range(either.ndim):
        others = tuple(other for other in range(either.ndim) if other != axis)
        inside = np.flatnonzero(either.any(axis=others))
        box.append(slice(inside[0], inside[-1] + 1))
    return [np.ascontiguousarray(mask[tuple(box)]) for mask in (pred, target)]


def _checked_spacing(spacing: Sequence[float], n_axes: int) -> list[float]:
    lengths = [float(length) for length in spacing]
    if len(lengths) != n_axes or not all(math.isfinite(length) and length > 0 for length in lengths):
        raise ValueError(
            f"got the spacing {lengths} for masks with {n_axes} axes, "
            "expected a positive number for each axis"
        )
    return lengths
