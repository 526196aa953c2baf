"""Tests of paired differences between two models, one difference per patient, with effect sizes and Holm's
correction. N images, S seeds, P patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.core.rng import derive_rng

EXACT_PATIENTS = 16
"""Largest number of patients whose 2^P combinations of signs are all computed; more are drawn at random."""

DRAWS = 20_000
"""Number of random combinations of signs; the smallest possible p is 1 / (DRAWS + 1)."""

DECIMALS = 12
"""Decimals to which differences are rounded, so that equal ones stay equal after rounding errors."""

_BLOCK = 2**22


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two-sided tests and effect sizes of the differences of `n_patients` patients; all NaN without
    patients."""

    n_patients: int
    mean: float
    """Mean of the patients' differences, in the metric's unit; each patient counts once."""
    p_permutation: float
    """Two-sided p of the sign-flip test of the mean, in (0, 1]."""
    p_wilcoxon: float
    """Two-sided p of Wilcoxon's signed-rank test, in (0, 1]; zeros are left out, and 1 if all are zero."""
    rank_biserial: float
    """Matched-pairs rank-biserial correlation in [-1, 1]; 0 if all differences are zero."""
    cohens_dz: float
    """Mean divided by the sample standard deviation; NaN with one patient, or without any spread."""
    exact: bool
    """True if the sign-flip test used all combinations of signs."""


def patient_means(
    values: Sequence[float] | Sequence[Sequence[float]] | Floats, patients: Sequence[str]
) -> Floats:
    """Return one mean per patient over its images and seeds, in the order of the patients' names.

    Args:
        values: one per image, or S×N with a row per seed and a column per image, in any unit.
        patients: the patient of each image.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    matrix, people = np.atleast_2d(np.asarray(values, np.float64)), np.asarray(patients, np.str_)
    if matrix.ndim != 2 or matrix.shape[1:] != people.shape:
        raise ValueError(
            f"got values of shape {matrix.shape} and patients of shape {people.shape}, "
            "expected a row per seed, with one of each per image"
        )
    _check_finite(matrix)
    names, person = np.unique(people, return_inverse=True)
    images = matrix.mean(axis=0) if len(matrix) else np.empty(0)
    sums = np.bincount(person, weights=images, minlength=names.size)
    return np.asarray(sums / np.bincount(person, minlength=names.size), np.float64)


def compare_pairs(differences: Sequence[float] | Floats, seed: int) -> PairedComparison:
    """Test whether the differences of patients are symmetric around zero, and return their effect sizes.

    `p_permutation` is the share of the combinations of signs whose mean is at least as far from zero as the
    observed one (Fisher's test of randomisation for pairs). Up to EXACT_PATIENTS patients, all combinations
    are used; with more, DRAWS random ones and the observed one (Phipson and Smyth, Stat. Appl. Genet. Mol.
    Biol. 9, 2010). With P patients the smallest possible p is 2^(1-P): 5 patients cannot reach 0.05.

    The images of one patient are not independent, so pass one difference per patient (`patient_means`). Seeds
    are averaged before, so p says nothing about new seeds: the intervals of `bootstrap_interval` do.

    Args:
        differences: one per patient, in any unit; their order does not change the result.
        seed: the same seed gives the same p.

    Raises:
        ValueError: a value is not finite.
    """
    values = np.sort(np.round(np.asarray(differences, np.float64), DECIMALS) + 0.0)
    _check_finite(values)
    if not values.size:
        return PairedComparison(0, math.nan, math.nan, math.nan, math.nan, math.nan, True)
    exact = values.size <= EXACT_PATIENTS
    sd = float(values.std(ddof=1)) if values.size > 1 and np.ptp(values) > 0 else math.nan
    return PairedComparison(
        n_patients=values.size,
        mean=float(values.mean()),
        p_permutation=_exact_p(values) if exact else _drawn_p(values, seed),
        p_wilcoxon=_wilcoxon(values),
        rank_biserial=_rank_biserial(values),
        cohens_dz=float(values.mean()) / sd,
        exact=exact,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's method, in the same order.

    The chance of any false finding among them stays below the level (Scand. J. Stat. 6, 1979). A NaN, which
    is a test that was not possible, stays NaN and does not count.

    Raises:
        ValueError: a value is outside [0, 1].
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    if any(not 0 <= p_values[index] <= 1 for index in known):
        raise ValueError(f"got the p values {list(p_values)}, expected numbers in [0, 1]")
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(known) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _exact_p(values: Floats) -> float:
    codes = np.arange(2**values.size)
    signs = 1 - 2 * ((codes[:, None] >> np.arange(values.size)) & 1)
    return float(_as_far(signs, values).mean())


def _drawn_p(values: Floats, seed: int) -> float:
    rng, as_far = derive_rng(seed, "sign flips"), 1
    per_block = max(1, _BLOCK // values.size)
    for start in range(0, DRAWS, per_block):
        size = (min(per_block, DRAWS - start), values.size)
        signs = 1 - 2 * rng.integers(2, size=size)
        as_far += int(_as_far(signs, values).sum())
    return as_far / (DRAWS + 1)


def _as_far(signs: NDArray[np.int64], values: Floats) -> NDArray[np.bool_]:
    """Return True for each combination whose sum is at least as far from zero as that of `values`."""
    tolerance = 1e-9 * float(np.abs(values).sum())
    return np.asarray(np.abs(signs @ values) >= abs(float(values.sum())) - tolerance)


def _wilcoxon(values: Floats) -> float:
    nonzero = values[values != 0]
    if not nonzero.size:
        return 1.0
    if nonzero.size <= EXACT_PATIENTS:  # SciPy is exact there, too, but takes a second where ranks are equal
        return _exact_p(_signed_ranks(nonzero))
    from scipy.stats import wilcoxon  # half a second, which most commands do not need

    return float(wilcoxon(nonzero).pvalue)


def _rank_biserial(values: Floats) -> float:
    """Return (W⁺ − W⁻) / (W⁺ + W⁻) of the ranks of the absolute values that are not zero (Kerby 2014)."""
    nonzero = values[values != 0]
    if not nonzero.size:
        return 0.0
    ranks = _signed_ranks(nonzero)
    return float(ranks.sum() / np.abs(ranks).sum())


def _signed_ranks(values: Floats) -> Floats:
    """Return the rank of each absolute value, the mean rank of equal ones, with the sign of the value."""
    _, group, sizes = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return np.asarray(ranks * np.sign(values), np.float64)


def _check_finite(values: Floats) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f"got {np.count_nonzero(~np.isfinite(values))} values that are not finite, "
            "expected numbers; leave such cases out of both runs"
        )
