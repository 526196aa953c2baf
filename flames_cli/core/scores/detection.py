"""Lesions found and missed, which Dice does not tell: in it large lesions outweigh small ones. H W pixels."""

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
    """Lesions of one case, or of many: counts add up, ratios come last."""

    n: int = 0
    """Lesions of the truth: connected parts, by 8 neighbours."""
    found: int = 0
    """Of these, the ones that the prediction touches in a pixel or more."""
    n_predicted: int = 0
    """Connected parts of the prediction."""
    n_right: int = 0
    """Of these, the ones that touch the truth. Not `found`: one part may touch two lesions."""

    def __add__(self, other: Self) -> "LesionCounts":
        return LesionCounts(
            self.n + other.n,
            self.found + other.found,
            self.n_predicted + other.n_predicted,
            self.n_right + other.n_right,
        )

    def recall(self) -> float:
        """Share of the lesions that were found, in [0, 1]; NaN where there is no lesion to find.

        The lesion true positive rate (Carass et al., NeuroImage 148, 2017).
        """
        return self.found / self.n if self.n else math.nan

    def precision(self) -> float:
        """Share of the predicted parts that are right, in [0, 1]; NaN where nothing was predicted.

        One less the lesion false positive rate of the same source.
        """
        return self.n_right / self.n_predicted if self.n_predicted else math.nan


def count_lesions(pred: Binary, target: Binary) -> LesionCounts:
    """Lesions of one case, H×W. A pixel in common is enough, so a prediction of all pixels finds them all:
    read it beside Dice.

    Raises:
        ValueError: as `count_pixels`.
    """
    predicted, truth = checked_masks(pred, target)
    n_predicted, parts = _label(predicted)
    n, lesions = _label(truth)
    both = predicted & truth
    return LesionCounts(n, np.unique(lesions[both]).size, n_predicted, np.unique(parts[both]).size)


def pool_counts(counts: Iterable[LesionCounts]) -> LesionCounts:
    """The lesions of many cases, as if they were of one."""
    return sum(counts, LesionCounts())


def _label(mask: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
    """How many connected parts `mask` has, and the part of every pixel, from 1 on; 0 outside them."""
    n, labels = cv2.connectedComponents(np.ascontiguousarray(mask, np.uint8), connectivity=8)
    return n - 1, np.asarray(labels, np.int32)
