"""A metric of contours."""

import numpy as np
from scipy.ndimage import binary_erosion

WIDTH = 0.02
"""Width of the boundary as a part of the image's diagonal, as in the paper."""


def boundary_iou(predicted: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> float | None:
    """Return the Boundary IoU in [0, 1] of two masks H×W, or D×H×W slice by slice (Cheng et al. 2021).

    It is the IoU of the pixels of each mask that are near its own contour. Two large masks with a large IoU
    may have different contours; this shows them. None: both masks are empty.
    """
    steps = max(1, round(WIDTH * float(np.hypot(*predicted.shape[-2:]))))
    a, b = _boundary(predicted, steps), _boundary(truth, steps)
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else None


def _boundary(mask: np.ndarray, steps: int) -> np.ndarray:
    """Return the pixels of `mask` that are at most `steps` away from its contour within their slice."""
    square = np.ones((1,) * (mask.ndim - 2) + (3, 3), bool)
    return mask & ~binary_erosion(mask, square, iterations=steps)
