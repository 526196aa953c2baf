"""Summaries of the metrics of many cases, by name."""

from collections.abc import Iterable, Mapping

from flames_cli.core.scores.metrics import Summary, summarise

METRICS = ("iou", "dice", "pixel_accuracy", "hausdorff_px")


def summarise_cases(cases: Iterable[Mapping[str, float]]) -> dict[str, Summary]:
    """Summarise each of METRICS over `cases`, which have all of them."""
    listed = list(cases)
    return {name: summarise(case[name] for case in listed) for name in METRICS}
