"""Summaries of the metrics of many cases, by name."""

from collections.abc import Iterable, Mapping, Sequence

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
