"""Calibration of probabilities: share of tumour by bin of probability, expected calibration error (ECE)."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.scores.metrics import Binary

N_BINS = 15
"""Number of bins of equal width, as in Guo et al. 2017."""

RELEVANT = 0.01
"""Probability from which a pixel counts as relevant. Nearly all pixels of an image are background that any
model is sure of, so the error over all of them is close to 0 for every model. Relevant pixels are chosen by
their probability alone: chosen by the true mask too, even perfect probabilities would have an error."""

EDGES: tuple[float, ...] = (0.0, RELEVANT, *(number / N_BINS for number in range(1, N_BINS + 1)))
"""Limits of the stored bins: the first of the N_BINS is divided at RELEVANT."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Pixels of one case or of many in each stored bin: its lower limit belongs to it, and so does 1 to the
    last."""

    counts: NDArray[np.int64]
    """Number of pixels by bin."""
    probability_sums: Floats
    """Sum of their probabilities by bin."""
    positives: NDArray[np.int64]
    """Number of these pixels that are tumour, by bin."""

    def __add__(self, other: Self) -> "Reliability":
        return Reliability(
            self.counts + other.counts,
            self.probability_sums + other.probability_sums,
            self.positives + other.positives,
        )

    def ece(self) -> float:
        """Return the ECE over all pixels in N_BINS bins, in [0, 1]; NaN without pixels.

        It is Σ over bins of (share of the pixels) · |share of tumour − mean probability|. Source: Guo et al.,
        On calibration of modern neural networks, ICML 2017.
        """
        return _ece(*(_merge_first_two(one) for one in (self.counts, self.probability_sums, self.positives)))

    def relevant_ece(self) -> float:
        """Return the ECE over the pixels with a probability of at least RELEVANT, in [0, 1]; NaN without such
        pixels."""
        return _ece(self.counts[1:], self.probability_sums[1:], self.positives[1:])


EMPTY = Reliability(
    np.zeros(N_BINS + 1, np.int64), np.zeros(N_BINS + 1, np.float64), np.zeros(N_BINS + 1, np.int64)
)


def measure_reliability(probabilities: NDArray[np.floating[Any]], target: Binary) -> Reliability:
    """Sort the pixels of one case into bins by their probability.

    Args:
        probabilities: in [0, 1], of any shape.
        target: 0 and 1, of the same shape.

    Raises:
        ValueError: the shapes differ, a probability is outside [0, 1] or not a number, or a target is neither
            0 nor 1.
    """
    values, truth = np.asarray(probabilities, np.float64).ravel(), np.asarray(target).ravel()
    if np.shape(probabilities) != np.shape(target):
        raise ValueError(
            f"got probabilities of shape {np.shape(probabilities)} and a target of shape {np.shape(target)}, "
            "expected one shape"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("got a probability outside [0, 1], expected the output of a sigmoid")
    positive = truth == 1
    if not (positive | (truth == 0)).all():
        raise ValueError("got a target with other values than 0 and 1, expected a mask")
    bins = np.minimum(np.searchsorted(EDGES, values, side="right") - 1, N_BINS)
    return Reliability(
        np.bincount(bins, minlength=N_BINS + 1),
        np.asarray(np.bincount(bins, values, minlength=N_BINS + 1), np.float64),
        np.bincount(bins[positive], minlength=N_BINS + 1),
    )


def _ece(counts: NDArray[Any], sums: NDArray[Any], positives: NDArray[Any]) -> float:
    total = int(counts.sum())
    return float(np.abs(positives - sums).sum() / total) if total else math.nan


def _merge_first_two(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([[values[0] + values[1]], values[2:]])
