"""Confidence interval of a mean difference when the images of one patient are not independent. N images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.rng import derive_rng

DRAWS = 2000
LEVEL = 0.95

_BLOCK = 2**20
"""Number of patients drawn in one block: memory stays at some ten MB, however many patients there are."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean over `n` images of `n_patients` and its confidence limits.

    All three are NaN if there is no image; the limits are also NaN if there are fewer than two patients to
    draw from.
    """

    mean: float
    low: float
    high: float
    n: int
    n_patients: int


def paired_interval(
    differences: Sequence[float],
    patients: Sequence[str],
    seed: int,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Return the mean of paired differences with the percentile interval of a bootstrap that draws patients.

    Each sample draws as many patients as there are, with replacement, each with all of its images. The mean
    is over images, so patients with many images weigh more, as in the tables. This is the cluster bootstrap
    of Field and Welsh (J. R. Statist. Soc. B 69, 2007) with percentile limits (Davison and Hinkley 1997,
    section 5.3). With few patients such limits are too narrow: in simulations of 1 to 9 images per patient,
    normal between patients and within (half to twice as wide), 95 % limits contained the true value in 94 of
    100 runs with 40 patients, 92 with 20, 81 with 5, 50 with 2; limits from a bootstrap that draws images
    contained it in 48 to 82.

    Args:
        differences: one per image, in any unit.
        patients: the patient of each image, in the same order; neither the order nor the names change the
            result.
        seed: the same seed gives the same limits.
        draws: number of bootstrap samples.
        level: share of the samples between the limits, in (0, 1).

    Raises:
        ValueError: the lengths differ, a difference is not finite, `draws` is below 1, or `level` is outside
            (0, 1).
    """
    values, people = np.asarray(differences, np.float64), np.asarray(patients, np.str_)
    _check(values, people, draws, level)
    if not values.size:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    order = np.lexsort((values, people))  # a sum of floats depends on their order
    _, person = np.unique(people[order], return_inverse=True)
    sizes, sums = np.bincount(person), np.zeros(person.max() + 1)
    np.add.at(sums, person, values[order])
    listed = np.lexsort((sizes, sums))  # not by name: pseudonyms differ between sites
    sizes, sums = sizes[listed], sums[listed]
    mean = float(sums.sum() / values.size)
    if sums.size < 2:
        return Interval(mean, math.nan, math.nan, values.size, sums.size)
    low, high = np.quantile(_draw_means(sums, sizes, seed, draws), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), values.size, sums.size)


def _draw_means(sums: Floats, sizes: NDArray[np.integer[Any]], seed: int, draws: int) -> Floats:
    """Return the mean over images of each bootstrap sample, from each patient's sum and number of images."""
    rng = derive_rng(seed, "bootstrap")
    means = []
    at_once = max(1, _BLOCK // sums.size)
    for start in range(0, draws, at_once):
        drawn = rng.integers(sums.size, size=(min(at_once, draws - start), sums.size))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def _check(values: Floats, people: NDArray[np.str_], draws: int, level: float) -> None:
    if values.ndim != 1 or values.shape != people.shape:
        raise ValueError(
            f"got differences of shape {values.shape} and patients of shape {people.shape}, "
            "expected one of each per image"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"got {np.count_nonzero(~np.isfinite(values))} differences that are not finite, "
            "expected numbers; leave such cases out of both runs"
        )
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"got {draws} draws and level {level}, expected 1 or more and a level in (0, 1)")
