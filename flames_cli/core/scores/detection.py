"""Counts of the lesions that were found and missed. Dice does not show them, since large lesions outweigh
small ones in it. H W pixels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.core.scores.metrics import Binary, checked_masks


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """Numbers of lesions in one case or in many: counts are added first, ratios are computed last."""

    n: int = 0
    """Number of lesions in the true mask: connected parts, by 8 neighbours."""
    found: int = 0
    """Number of these lesions that the prediction touches in at least one pixel."""
    n_predicted: int = 0
    """Number of connected parts in the prediction."""
    n_right: int = 0
    """Number of these parts that touch the true mask. It differs from `found`: one part may touch two
    lesions."""

    def __add__(self, other: Self) -> "LesionCounts":
        return LesionCounts(
            self.n + other.n,
            self.found + other.found,
            self.n_predicted + other.n_predicted,
            self.n_right + other.n_right,
        )

    def recall(self) -> float:
        """Return the share of the lesions that were found, in [0, 1]; NaN if there is no lesion.

        This is the lesion true positive rate of Carass et al., NeuroImage 148, 2017.
        """
        return self.found / self.n if self.n else math.nan

    def precision(self) -> float:
        """Return the share of the predicted parts that touch a lesion, in [0, 1]; NaN if nothing was
        predicted.

        This is 1 minus the lesion false positive rate of the same source.
        """
        return self.n_right / self.n_predicted if self.n_predicted else math.nan


def count_lesions(pred: Binary, target: Binary) -> LesionCounts:
    """Count the lesions of one case, H×W.

    One common pixel is enough, so a prediction of all pixels finds all lesions: read these counts next to
    Dice.

    Raises:
        ValueError: as `count_pixels`.
    """
    predicted, truth = checked_masks(pred, target)
    n_predicted, parts = _label(predicted)
    n, lesions = _label(truth)
    both = predicted & truth
    return LesionCounts(n, np.unique(lesions[both]).size, n_predicted, np.unique(parts[both]).size)


def pool_counts(counts: Iterable[LesionCounts]) -> LesionCounts:
    """Return the sum of the counts of many cases."""
    return sum(counts, LesionCounts())


def _label(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected parts of `mask`, and the part of every pixel: 1 and higher, 0 outside
    the parts."""
    n, labels = cv2.connectedComponents(np.ascontiguousarray(mask, np.uint8), connectivity=8)
    return n - 1, np.asarray(labels, np.int32)
