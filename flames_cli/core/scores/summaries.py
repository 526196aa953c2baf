"""Summaries of the metrics of many cases, by name."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from flames_cli.core.scores.metrics import Summary, summarise

REPORTED_METRICS = ("iou", "dice", "pixel_accuracy", "hausdorff_px")
"""Metrics that a real node reports of its own test set."""

METRICS = (*REPORTED_METRICS, "majority_accuracy")
"""Metrics of `flames evaluate`."""


def summarise_seeds(values: Iterable[Iterable[float]]) -> Summary:
    """Summarise one metric over the same cases for several seeds, a row of `values` for each.

    With one seed it is the summary over cases. Else `mean` and `sd` (n - 1) are those of the seeds' means,
    and `n` and `n_infinite` those of the seed with the fewest finite values.
    """
    by_seed = [summarise(row) for row in values]
    if len(by_seed) == 1:
        return by_seed[0]
    over = summarise(one.mean for one in by_seed if one.n)
    return Summary(over.mean, over.sd, min(one.n for one in by_seed), max(one.n_infinite for one in by_seed))


def summarise_cases(cases: Iterable[Mapping[str, float]], names: Sequence[str]) -> dict[str, Summary]:
    """Summarise each of the metrics `names` over `cases`, which have all of them."""
    listed = list(cases)
    return {name: summarise(case[name] for case in listed) for name in names}


@dataclass(frozen=True, slots=True)
class DistanceSummary:
    """Mean of the finite distances of many cases, and the mean in which a missed case has a penalty.

    A mean without cases is NaN.
    """

    mean: float
    """Mean over the `n_finite` cases in which both masks contain tumour, or neither does."""
    n_finite: int
    penalised: float
    """Mean over all `n` cases, where an infinite distance counts as the diagonal of its image."""
    n: int


def summarise_distances(
    distances: Sequence[float], diagonals: Sequence[float], both_empty: Sequence[bool] | None = None
) -> DistanceSummary:
    """Summarise distances of which some are infinite, since one mask is empty.

    The mean of the finite ones alone is better for a model that misses its worst cases.

    Args:
        distances: one per case, 0 or more.
        diagonals: diagonal of each image (of the box of each volume), in the same unit.
        both_empty: True for a case in which both masks are empty. Its distance counts as 0 in the penalised
            mean, also where the metric has infinity (`hausdorff_px`). None: there is no such case, or its
            distance is 0 (`surface_distances`).

    Raises:
        ValueError: the lengths differ, a distance is negative or NaN, or a diagonal is not positive and
            finite.
    """
    empty = both_empty or [False] * len(distances)
    if not all(distance >= 0 for distance in distances):
        raise ValueError(f"got the distances {list(distances)}, expected numbers of 0 or more, or infinity")
    if not all(0 < diagonal < math.inf for diagonal in diagonals):
        raise ValueError(f"got the diagonals {list(diagonals)}, expected positive numbers")
    cases = list(zip(distances, diagonals, empty, strict=True))
    finite = [distance for distance in distances if math.isfinite(distance)]
    filled = [
        distance if math.isfinite(distance) else 0.0 if agree else diagonal
        for distance, diagonal, agree in cases
    ]
    return DistanceSummary(
        fmean(finite) if finite else math.nan,
        len(finite),
        fmean(filled) if filled else math.nan,
        len(cases),
    )
