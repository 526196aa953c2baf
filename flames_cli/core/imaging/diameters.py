"""Largest diameter of the lesions of a mask, in 2D and 3D."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Mask
from flames_cli.core.imaging.components import label_components

_BLOCK = 1024
"""Number of points whose distances to all others are computed in one step."""


def box_of(mask: NDArray[Any]) -> tuple[slice, ...]:
    """Return the smallest box around all voxels of `mask` that are not 0; empty slices if there are none."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    return tuple(box)


def largest_diameter(mask: Mask, spacing: Sequence[float]) -> tuple[int, float]:
    """Return the number of connected parts of `mask`, and the largest diameter of one of them in the unit of
    `spacing`; 0 and 0.0 for an empty mask.

    The diameter is the maximal Feret diameter: the largest distance between two points of a part, whose
    pixels (voxels) are rectangles (boxes), not points. One pixel of 1 mm has √2 mm. In 3D the two points may
    be in different slices.

    Args:
        mask: H×W or D×H×W of 0 and 1.
        spacing: length of a pixel (voxel) along each axis.
    """
    inside = np.ascontiguousarray(mask[box_of(mask)])
    if not inside.size:
        return 0, 0.0
    from scipy.ndimage import find_objects  # a tenth of a second, which most commands do not need

    n, labels = label_components(inside)
    lengths, boxes = np.asarray(spacing, float), find_objects(labels)
    sides = np.array([[part.stop - part.start for part in box] for box in boxes])
    longest = np.sqrt(((sides * lengths) ** 2).sum(axis=1))
    largest = 0.0
    for index in np.argsort(-longest):  # a part is at most as long as the diagonal of its box
        if longest[index] <= largest:
            break
        own = labels[boxes[index]] == index + 1
        largest = max(largest, _feret(_corners(own) * lengths))
    return n, largest


def _corners(own: NDArray[np.bool_]) -> Floats:
    """Return corners of the voxels of a part, N×axes, among them all that can be the ends of its diameter.

    Those are the first and the last voxel of each line along the last axis.
    """
    lines = own.any(axis=-1)
    where = np.argwhere(lines)
    first = own[lines].argmax(axis=-1)
    last = own.shape[-1] - 1 - own[lines][:, ::-1].argmax(axis=-1)
    ends = np.column_stack([np.vstack([where, where]), np.concatenate([first, last + 1])]).astype(float)
    points = [ends]
    for axis in range(own.ndim - 1):
        moved = [one.copy() for one in points]
        for one in moved:
            one[:, axis] += 1
        points += moved
    return np.vstack(points)


def _feret(points: Floats) -> float:
    """Return the largest distance between two points, N×axes, which span all axes."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    hull = points[ConvexHull(points).vertices]
    return float(
        max(cdist(hull[start : start + _BLOCK], hull).max() for start in range(0, len(hull), _BLOCK))
    )
