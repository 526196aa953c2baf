"""Counts of the lesions that were found and missed. Dice does not show them, since large lesions outweigh
small ones in it. H W pixels."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.imaging.components import label_components
from flames_cli.core.scores.metrics import Binary, checked_masks

MIN_IOU = 0.1
"""Smallest intersection over union of a lesion and the part that finds it. A lesion of some pixels is found
by a prediction that is a little off, and not by one that covers the image."""


@dataclass(frozen=True, slots=True)
class LesionMatches:
    """Numbers of lesions of one case or of many, with predicted parts matched to lesions one to one. Counts
    are added first, ratios are computed last."""

    lesions: int = 0
    """Number of connected parts of the true mask; parts that touch at a corner are connected."""
    predicted: int = 0
    """Number of connected parts of the prediction."""
    matched: int = 0
    """Number of lesions with a predicted part of their own."""
    images: int = 0
    """Number of cases."""

    def __add__(self, other: Self) -> "LesionMatches":
        return LesionMatches(
            self.lesions + other.lesions,
            self.predicted + other.predicted,
            self.matched + other.matched,
            self.images + other.images,
        )

    def recall(self) -> float:
        """Return the share of the lesions that were found, in [0, 1]; NaN if there is no lesion."""
        return self.matched / self.lesions if self.lesions else math.nan

    def precision(self) -> float:
        """Return the share of predicted parts that are lesions, in [0, 1]; NaN if nothing was predicted."""
        return self.matched / self.predicted if self.predicted else math.nan

    def f1(self) -> float:
        """Return 2 TP / (2 TP + FP + FN) in [0, 1]; NaN if there is neither a lesion nor a predicted part."""
        both = self.lesions + self.predicted
        return 2 * self.matched / both if both else math.nan

    def false_positives_per_image(self) -> float:
        """Return the mean number of predicted parts of a case that are no lesion; NaN without cases."""
        return (self.predicted - self.matched) / self.images if self.images else math.nan


def match_lesions(pred: Binary, target: Binary, min_iou: float = MIN_IOU) -> LesionMatches:
    """Match the connected parts of a prediction with the lesions of one case, one to one.

    A pair can match if its intersection over union is at least `min_iou`. Among all ways to pair them, the
    one with the largest sum of IoU counts, as in panoptica (Kofler et al. 2023).

    Args:
        pred: H×W or D×H×W.
        target: as `pred`.
        min_iou: in (0, 1].

    Raises:
        ValueError: the masks are not of one shape in 2D or 3D, contain other values than 0 and 1, or
            `min_iou` is outside (0, 1].
    """
    predicted, truth = checked_masks(pred, target, dims=(2, 3))
    if not 0 < min_iou <= 1:
        raise ValueError(f"got a smallest IoU of {min_iou}, expected a number above 0, and 1 at most")
    n_parts, parts = label_components(predicted)
    n_lesions, lesions = label_components(truth)
    return LesionMatches(n_lesions, n_parts, _count_matches(parts, lesions, min_iou), 1)


def _count_matches(parts: NDArray[np.int32], lesions: NDArray[np.int32], min_iou: float) -> int:
    from scipy.optimize import linear_sum_assignment  # a tenth of a second, which most commands do not need

    both = (parts > 0) & (lesions > 0)
    width = int(lesions.max(initial=0)) + 1
    codes, overlaps = np.unique(parts[both].astype(np.int64) * width + lesions[both], return_counts=True)
    part, lesion = codes // width, codes % width
    sizes = np.bincount(parts.ravel())[part] + np.bincount(lesions.ravel())[lesion]
    ious = overlaps / (sizes - overlaps)
    pairs = ious >= min_iou
    if not pairs.any():
        return 0
    rows, row = np.unique(part[pairs], return_inverse=True)
    columns, column = np.unique(lesion[pairs], return_inverse=True)
    scores = np.zeros((rows.size, columns.size))
    scores[row, column] = ious[pairs]
    return int(np.count_nonzero(scores[linear_sum_assignment(scores, maximize=True)]))
