"""Table of all metrics: one line per model and organ."""

import math
from dataclasses import dataclass, field
from typing import Any

from flames_cli.arrays import Floats
from flames_cli.core.scores.intervals import Interval, bootstrap_interval
from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import METRICS, summarise_seeds
from flames_cli.stages.evaluate.parts import Part, SeedScores, values_of

BOUNDED = ("iou", "dice", "pixel_accuracy")
"""Metrics with an interval: a distance that some models do not have would be one over other cases."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `n` cases, summarised per metric, compared with another run if there is one.

    With several seeds, summaries are of the seeds' means (`summarise_seeds`).
    """

    label: str
    modality: str
    organ: str
    n: int
    metrics: dict[str, Summary]
    compared: dict[str, Summary] | None = None
    dice_gain: Summary | None = None
    """Gain of this run over the other, paired case by case."""
    unseen: str = ""
    """The unseen site of the cases, which no client has trained on; else empty."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Intervals of the means of BOUNDED, over patients and seeds."""
    gain_interval: Interval | None = None
    by_seed: list[float] = field(default_factory=list)
    """Mean Dice of each seed, in the order of seeds."""
    gain_by_seed: list[float] = field(default_factory=list)
    """Mean gain in Dice of each seed; empty if the other run has other seeds."""

    def as_json(self) -> dict[str, Any]:
        """Return the entry for summary.json; a mean without finite values is null."""
        plain: dict[str, Any] = {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "unseen_site": self.unseen or None,
            "n": self.n,
            "metrics": {name: summary_as_json(value) for name, value in self.metrics.items()},
            "intervals": {name: interval_as_json(value) for name, value in self.intervals.items()},
            "dice_by_seed": self.by_seed,
        }
        if self.compared is not None and self.dice_gain is not None:
            plain["compared"] = {name: summary_as_json(value) for name, value in self.compared.items()}
            plain["dice_gain"] = summary_as_json(self.dice_gain)
            plain["dice_gain_by_seed"] = self.gain_by_seed
        if self.gain_interval:
            plain["dice_gain_interval"] = interval_as_json(self.gain_interval)
        return plain


def summary_as_json(value: Summary) -> dict[str, float | int | None]:
    """Return the entry for summary.json; a mean without finite values is null."""
    mean, sd = number_or_null(value.mean), number_or_null(value.sd)
    return {"mean": mean, "sd": sd, "n": value.n, "n_infinite": value.n_infinite}


def interval_as_json(value: Interval) -> dict[str, float | int | None]:
    """Return the entry for summary.json; a limit that is not defined is null."""
    limits = {name: number_or_null(getattr(value, name)) for name in ("mean", "low", "high")}
    return {**limits, "n": value.n, "patients": value.n_patients}


def number_or_null(value: float) -> float | None:
    """Return `value`, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def make_row(part: Part, seed: int) -> Row:
    """Summarise the cases of `part`; `seed` is the seed of the intervals' draws."""
    people = [score.person for score in part.cases]
    return Row(
        label=part.label,
        modality=part.modality,
        organ=part.organ,
        n=len(part.cases),
        metrics=_summaries(part.scores),
        compared=None if part.compared is None else _summaries(part.compared),
        dice_gain=_gain(part),
        unseen=part.unseen,
        intervals={name: bootstrap_interval(values_of(part.scores, name), people, seed) for name in BOUNDED},
        gain_interval=part.gain_interval(seed),
        by_seed=_by_seed(values_of(part.scores, "dice")),
        gain_by_seed=_by_seed(part.gains()) if part.compared is not None and part.same_seeds else [],
    )


def _gain(part: Part) -> Summary | None:
    """Return the summary of the gains; without a standard deviation if the other run has other seeds."""
    if part.compared is None:
        return None
    if part.same_seeds:
        return summarise_seeds(part.gains())
    ours, theirs = (values_of(scores, "dice").mean() for scores in (part.scores, part.compared))
    return Summary(float(ours - theirs), math.nan, len(part.cases), 0)


def _by_seed(values: Floats) -> list[float]:
    return [float(mean) for mean in values.mean(axis=1)]


def _summaries(scores: SeedScores) -> dict[str, Summary]:
    return {name: summarise_seeds(values_of(scores, name)) for name in METRICS}
