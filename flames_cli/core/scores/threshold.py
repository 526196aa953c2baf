"""Choices on validation cases: the threshold of probabilities, and whether only the largest part of a
prediction stays. N images, T thresholds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.scores.comparisons import DECIMALS, patient_means
from flames_cli.core.scores.metrics import EPSILON, Binary

DEFAULT = 0.5
GRID: tuple[float, ...] = tuple(percent / 100 for percent in range(5, 100, 5))
"""Thresholds that are compared; DEFAULT is one of them."""


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The threshold of a model, and the validation that led to it."""

    threshold: float
    n_patients: int
    """Number of validation patients."""
    dice: float
    """Mean Dice over these patients at the chosen threshold; NaN without patients."""
    default_dice: float
    """The same at DEFAULT."""
    enough: bool
    """True if there were enough patients to choose; else the threshold is DEFAULT."""


@dataclass(frozen=True, slots=True)
class CleanupChoice:
    """Choice of a model's post-processing, and the validation that led to it."""

    largest_only: bool
    """True if only the largest connected part of each prediction stays."""
    n_patients: int
    dice: float
    """Mean Dice over the validation patients with the largest part only; NaN without patients."""
    default_dice: float
    """The same with all parts."""
    enough: bool
    """True if there were enough patients to choose; else all parts stay."""


def dice_at_thresholds(
    probabilities: NDArray[np.floating[Any]], target: Binary, grid: Sequence[float] = GRID
) -> Floats:
    """Return the Dice of one case at each threshold of `grid`, which rises: T numbers in [0, 1].

    A pixel is predicted if its probability is above the threshold, in the precision of the probabilities.
    """
    limits = np.asarray(grid, probabilities.dtype)
    above = np.searchsorted(limits, probabilities.ravel(), side="left")  # thresholds below each pixel
    truth = np.asarray(target).ravel() > 0
    predicted, both = (
        np.bincount(one, minlength=len(limits) + 1)[::-1].cumsum()[::-1][1:] for one in (above, above[truth])
    )
    return np.asarray((2 * both + EPSILON) / (predicted + np.count_nonzero(truth) + EPSILON), np.float64)


def choose_threshold(
    dice: Sequence[Sequence[float]] | Sequence[Floats] | Floats,
    patients: Sequence[str],
    enough: int,
    grid: Sequence[float] = GRID,
) -> ThresholdChoice:
    """Return the threshold that validation patients choose: the nearest to DEFAULT whose mean Dice over
    patients is not below the highest one by more than the standard error of their difference.

    This is the rule of one standard error (Breiman et al. 1984, section 3.4.3): the highest mean of many
    thresholds is in part chance. Of two that are equally near the lower one is chosen. With fewer than
    `enough` patients it is DEFAULT.

    Args:
        dice: N×T, from `dice_at_thresholds`.
        patients: the patient of each image.
        enough: smallest number of patients that chooses.
        grid: the thresholds, with DEFAULT among them.

    Raises:
        ValueError: the lengths differ, a Dice is not finite, or DEFAULT is not in `grid`.
    """
    matrix = np.asarray(dice, np.float64).reshape(len(patients), len(grid))
    default = list(grid).index(DEFAULT)
    n = len(set(patients))
    if not n:
        return ThresholdChoice(DEFAULT, 0, math.nan, math.nan, False)
    by_patient = np.array([patient_means(column, patients) for column in matrix.T])
    means = [round(float(row.mean()), DECIMALS) for row in by_patient]
    best = means.index(max(means))
    nearest = sorted(range(len(grid)), key=lambda one: (round(abs(grid[one] - DEFAULT), 9), one))
    as_good = (one for one in nearest if not _is_better(by_patient[best], by_patient[one]))
    chosen = next(as_good) if n >= enough else default
    return ThresholdChoice(grid[chosen], n, means[chosen], means[default], n >= enough)


def choose_cleanup(
    plain: Sequence[float] | Floats, cleaned: Sequence[float] | Floats, patients: Sequence[str], enough: int
) -> CleanupChoice:
    """Return whether only the largest part of predictions stays: only if the mean Dice over validation
    patients rises by more than the standard error of the rise, and there are at least `enough` of them.

    Args:
        plain: Dice of each image (volume) with all parts.
        cleaned: the same with the largest part only.
        patients: the patient of each image.
        enough: smallest number of patients that chooses.

    Raises:
        ValueError: the lengths differ, or a Dice is not finite.
    """
    n = len(set(patients))
    if not n:
        return CleanupChoice(False, 0, math.nan, math.nan, False)
    before, after = (patient_means(one, patients) for one in (plain, cleaned))
    without, with_ = (round(float(one.mean()), DECIMALS) for one in (before, after))
    return CleanupChoice(n >= enough and _is_better(after, before), n, with_, without, n >= enough)


def _is_better(one: Floats, other: Floats) -> bool:
    """Return whether the mean of `one` is higher by more than the standard error of the paired difference."""
    gains = np.round(one - other, DECIMALS)
    error = gains.std(ddof=1) / math.sqrt(gains.size) if gains.size > 1 else 0.0
    return bool(gains.mean() > error)
