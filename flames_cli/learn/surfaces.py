"""Distances between the surfaces of two masks, in 2D and 3D, by MONAI's metrics.

MONAI loads all of its parts with any of them, which takes seconds. So it is imported late, by the functions
that need it. Both functions are symmetric. D H W voxels.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flames_cli.core.scores.metrics import Binary, checked_masks

PERCENTILE = 95


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
    """Return HD95 and ASSD of one case.

    They equal `compute_hausdorff_distance(percentile=95)` and `compute_average_surface_distance(symmetric=
    True)` of MONAI, which would each search the nearest voxels again.

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
    with _monai_apart():
        from monai.metrics.utils import get_edge_surface_distance

        masks = (torch.from_numpy(mask) for mask in _crop(predicted, truth))
        _, found, _ = get_edge_surface_distance(*masks, spacing=lengths, symmetric=True)
    forth, back = (np.asarray(one, np.float64) for one in found)
    hd95 = max(np.percentile(forth, PERCENTILE), np.percentile(back, PERCENTILE))
    return SurfaceDistances(float(hd95), float(np.concatenate([forth, back]).mean()))


def surface_dice(pred: Binary, target: Binary, spacing: Sequence[float], tolerance: float) -> float:
    """Return the normalised surface Dice (NSD) of one case, in [0, 1].

    It is the share of the area of both surfaces (length in 2D) that is at most `tolerance` from the other
    surface. Surfaces pass between voxels, as in Nikolov et al., J. Med. Internet Res. 23, 2021. The result is
    0 if one mask is empty, and 1 if both are.

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
    options = {"include_background": True, "spacing": lengths, "use_subvoxels": True}
    with _monai_apart():
        from monai.metrics import compute_surface_dice

        masks = (torch.from_numpy(mask)[None, None] for mask in _crop(predicted, truth))
        return float(compute_surface_dice(*masks, class_thresholds=[tolerance], **options))


@contextmanager
def _monai_apart() -> Iterator[None]:
    """Hide the warnings of MONAI 1.6 about an argument that its own functions pass, and undo what its import
    does to the warnings of the process: it replaces their handler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _crop(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return both masks in the box around both: MONAI works in this box too, but copies all voxels before."""
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
