"""Summaries of the metrics of many cases, by name."""

from collections.abc import Iterable, Mapping, Sequence

from flames_cli.core.scores.metrics import Summary, summarise

REPORTED_METRICS = ("iou", "dice", "pixel_accuracy", "hausdorff_px")
"""Metrics that a real node reports of its own test set."""

METRICS = (*REPORTED_METRICS, "majority_accuracy")
"""Metrics of `flames evaluate`."""


def summarise_cases(cases: Iterable[Mapping[str, float]], names: Sequence[str]) -> dict[str, Summary]:
    """Summarise each of the metrics `names` over `cases`, which have all of them."""
    listed = list(cases)
    return {name: summarise(case[name] for case in listed) for name in names}
