"""Table of all metrics: one line per model and organ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.core.scores.metrics import Summary, summarise
from flames_cli.core.scores.summaries import METRICS, summarise_cases
from flames_cli.stages.evaluate.parts import Part
from flames_cli.stages.evaluate.scoring import Score


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `n` cases, summarised per metric, compared with another run if there is one."""

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

    def as_json(self) -> dict[str, Any]:
        """Return the entry for summary.json; a mean without finite values is null."""
        plain: dict[str, Any] = {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "unseen_site": self.unseen or None,
            "n": self.n,
            "metrics": {name: summary_as_json(value) for name, value in self.metrics.items()},
        }
        if self.compared is not None and self.dice_gain is not None:
            plain["compared"] = {name: summary_as_json(value) for name, value in self.compared.items()}
            plain["dice_gain"] = summary_as_json(self.dice_gain)
        return plain


def summary_as_json(value: Summary) -> dict[str, float | int | None]:
    """Return the entry for summary.json; a mean without finite values is null."""
    mean, sd = number_or_null(value.mean), number_or_null(value.sd)
    return {"mean": mean, "sd": sd, "n": value.n, "n_infinite": value.n_infinite}


def number_or_null(value: float) -> float | None:
    """Return `value`, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def make_row(part: Part) -> Row:
    """Summarise the cases of `part`."""
    gain = None
    if part.compared is not None:
        gain = summarise(ours.metrics["dice"] - theirs.metrics["dice"] for ours, theirs in part.pairs())
    return Row(
        label=part.label,
        modality=part.modality,
        organ=part.organ,
        n=len(part.scores),
        metrics=_summaries(part.scores),
        compared=None if part.compared is None else _summaries(part.compared),
        dice_gain=gain,
        unseen=part.unseen,
    )


def _summaries(scores: Sequence[Score]) -> dict[str, Summary]:
    return summarise_cases((score.metrics for score in scores), METRICS)
