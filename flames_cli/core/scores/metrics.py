"""Segmentation metrics of one case (counts first, ratios last) and their summary over many cases.

The formulas are those that the FLAMES authors publish: IoU and Dice have an epsilon of 1e-6, so two empty
masks score 1; the Hausdorff distance is taken over all foreground pixels, in pixels. H W pixels.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Binary = NDArray[Any]
"""Mask of H×W, bool or any number type, with the values 0 and 1 only."""

EPSILON = 1e-6
MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Counts:
    """Numbers of pixels (voxels) of one case by outcome; those of a volume's slices add up to its own."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def both_empty(self) -> bool:
        """True if neither mask has a pixel of tumour."""
        return not self.true_positive + self.false_positive + self.false_negative

    def iou(self) -> float:
        """Return the intersection over union in [0, 1]; 1 if both masks are empty."""
        union = self.true_positive + self.false_positive + self.false_negative
        return (self.true_positive + EPSILON) / (union + EPSILON)

    def dice(self) -> float:
        """Return the Dice similarity in [0, 1]; 1 if both masks are empty."""
        both = 2 * self.true_positive + self.false_positive + self.false_negative
        return (2 * self.true_positive + EPSILON) / (both + EPSILON)

    def pixel_accuracy(self) -> float:
        """Return the share of pixels with the same label, in [0, 1]; background counts as much as tumour."""
        right = self.true_positive + self.true_negative
        return right / (right + self.false_positive + self.false_negative)

    def majority_accuracy(self) -> float:
        """Return the pixel accuracy of a prediction without tumour, in [0, 1]: the share of background."""
        background = self.true_negative + self.false_positive
        return background / (background + self.true_positive + self.false_negative)

    def sensitivity(self) -> float:
        """Return the share of the tumour that was predicted, in [0, 1]; NaN if the true mask is empty."""
        tumour = self.true_positive + self.false_negative
        return self.true_positive / tumour if tumour else math.nan

    def precision(self) -> float:
        """Return the share of the prediction that is tumour, in [0, 1]; NaN if the prediction is empty."""
        predicted = self.true_positive + self.false_positive
        return self.true_positive / predicted if predicted else math.nan

    def volume_ml(self, voxel_mm3: float) -> float:
        """Return the volume of the true mask in ml, if a voxel has `voxel_mm3`."""
        return (self.true_positive + self.false_negative) * voxel_mm3 / MM3_PER_ML

    def predicted_ml(self, voxel_mm3: float) -> float:
        """Return the volume of the prediction in ml, if a voxel has `voxel_mm3`."""
        return (self.true_positive + self.false_positive) * voxel_mm3 / MM3_PER_ML

    def volume_error_ml(self, voxel_mm3: float) -> float:
        """Return the predicted minus the true volume in ml: above 0 if too much was predicted."""
        return (self.false_positive - self.false_negative) * voxel_mm3 / MM3_PER_ML


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over the `n` finite values; `n_infinite` values were left
    out.

    Both are NaN if there is no finite value; the standard deviation of one value is 0.
    """

    mean: float
    sd: float
    n: int
    n_infinite: int


def checked_masks(
    pred: Binary, target: Binary, dims: tuple[int, ...] = (2,)
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return both masks as bool; `dims` are the numbers of axes that are allowed.

    Raises:
        ValueError: the masks are not of one shape with such a number of axes, or contain other values than 0
            and 1.
    """
    if pred.ndim not in dims or pred.shape != target.shape or pred.size == 0:
        shapes = " or ".join({2: "H×W", 3: "D×H×W"}[n] for n in dims)
        raise ValueError(
            f"got a prediction of shape {pred.shape} and a target of shape {target.shape}, "
            f"expected two {shapes} masks of one shape; pass one case at a time"
        )
    return _binary(pred, "prediction"), _binary(target, "target")


def count_pixels(pred: Binary, target: Binary) -> Counts:
    """Count the pixels of one case by outcome.

    Raises:
        ValueError: the masks are not H×W of one shape, or contain other values than 0 and 1.
    """
    return _count(*checked_masks(pred, target))


def sum_counts(counts: Iterable[Counts]) -> Counts:
    """Return the sum of the counts, such as those of the slices of a volume."""
    return sum(counts, Counts(0, 0, 0, 0))


def iou(pred: Binary, target: Binary) -> float:
    """Return (I + eps) / (U + eps), where I and U are the pixels of intersection and union. Raises as
    `count_pixels`."""
    return count_pixels(pred, target).iou()


def dice(pred: Binary, target: Binary) -> float:
    """Return (2 I + eps) / (P + T + eps), where P and T are the pixels of each mask. Raises as
    `count_pixels`."""
    return count_pixels(pred, target).dice()


def pixel_accuracy(pred: Binary, target: Binary) -> float:
    """Return the share of pixels with the same label. Raises as `count_pixels`."""
    return count_pixels(pred, target).pixel_accuracy()


def hausdorff_px(pred: Binary, target: Binary) -> float:
    """Return the symmetric Hausdorff distance between the foregrounds, in pixels. Raises as `count_pixels`.

    The distance is infinite if one or both masks are empty, as in the authors' code: there is no pixel to
    measure from. `summarise` leaves such cases out and counts them.
    """
    return _hausdorff(*checked_masks(pred, target))


def case_metrics(pred: Binary, target: Binary) -> dict[str, float]:
    """Return the metrics of one case: `iou`, `dice`, `pixel_accuracy`, `hausdorff_px`, `majority_accuracy`.

    Raises:
        ValueError: as `count_pixels`.
    """
    pred, target = checked_masks(pred, target)
    counts = _count(pred, target)
    return {
        "iou": counts.iou(),
        "dice": counts.dice(),
        "pixel_accuracy": counts.pixel_accuracy(),
        "hausdorff_px": _hausdorff(pred, target),
        "majority_accuracy": counts.majority_accuracy(),
    }


def summarise(values: Iterable[float]) -> Summary:
    """Summarise one metric over cases; pass the cases of all groups, never the means of groups.

    Raises:
        ValueError: a value is NaN. No metric of a case is ever NaN, so a NaN means an error in the code
            before.
    """
    every = np.fromiter(values, dtype=np.float64)
    if np.isnan(every).any():
        raise ValueError(
            f"got NaN in {int(np.isnan(every).sum())} of {every.size} values, expected numbers or infinity; "
            "find the cases that it came from"
        )
    finite = every[np.isfinite(every)]
    n_infinite = every.size - finite.size
    if finite.size == 0:
        return Summary(math.nan, math.nan, 0, n_infinite)
    sd = float(finite.std(ddof=1)) if finite.size > 1 else 0.0
    return Summary(float(finite.mean()), sd, finite.size, n_infinite)


def _count(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> Counts:
    n_pred, n_target = int(np.count_nonzero(pred)), int(np.count_nonzero(target))
    both = int(np.count_nonzero(pred & target))
    return Counts(both, n_pred - both, n_target - both, pred.size - n_pred - n_target + both)


def _hausdorff(pred: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    if not pred.any() or not target.any():
        return math.inf
    # Only pixels in the box around both masks matter, so the transforms are computed in this box.
    either = pred | target
    rows, cols = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return max(_directed(pred[box], target[box]), _directed(target[box], pred[box]))


def _directed(start: NDArray[np.bool_], goal: NDArray[np.bool_]) -> float:
    """Return the largest distance from a pixel of `start` to its nearest pixel of `goal`."""
    from scipy.ndimage import distance_transform_edt  # a tenth of a second, which most commands do not need

    outside = start & ~goal
    return float(distance_transform_edt(~goal)[outside].max()) if outside.any() else 0.0


def _binary(mask: Binary, name: str) -> NDArray[np.bool_]:
    foreground = np.asarray(mask == 1)
    odd = ~foreground & (mask != 0)
    if odd.any():
        raise ValueError(
            f"got the value {mask[odd][0]} in the {name}, expected only 0 and 1; threshold it first"
        )
    return foreground
