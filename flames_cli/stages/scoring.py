"""Scores of one model on one test set, and the tables made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.core.metrics import Summary, case_metrics, summarise
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.segment import Segmenter

METRICS = ("iou", "dice", "pixel_accuracy", "hausdorff_px")
ALL_ORGANS = "all organs"


@dataclass(frozen=True, slots=True)
class Score:
    """The metrics of one case."""

    case: str
    dataset: str
    organ: str
    metrics: dict[str, float]
    site: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """One model with one test set: a client with its own, or a server model with its modality's."""

    label: str
    modality: str
    split: str
    """client_test or server_test."""
    data: ShardDataset
    weights: Weights
    unseen: str = ""
    """The site that no client has seen and that all of `data` is from; else empty."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `n` cases summarised a metric, beside another run's where there is one."""

    label: str
    modality: str
    organ: str
    n: int
    metrics: dict[str, Summary]
    compared: dict[str, Summary] | None = None
    dice_gain: Summary | None = None
    """Of this run over the other, paired case by case."""
    unseen: str = ""
    """The site that no client has seen and that the cases are from; else empty."""

    def as_json(self) -> dict[str, Any]:
        """For summary.json; a mean of no finite value is null."""
        plain: dict[str, Any] = {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "unseen_site": self.unseen or None,
            "n": self.n,
            "metrics": {name: _summary_json(value) for name, value in self.metrics.items()},
        }
        if self.compared is not None and self.dice_gain is not None:
            plain["compared"] = {name: _summary_json(value) for name, value in self.compared.items()}
            plain["dice_gain"] = _summary_json(self.dice_gain)
        return plain


def _summary_json(value: Summary) -> dict[str, float | int | None]:
    def number(x: float) -> float | None:
        return None if math.isnan(x) else x

    return {"mean": number(value.mean), "sd": number(value.sd), "n": value.n, "n_infinite": value.n_infinite}


def score_subject(segmenter: Segmenter, subject: Subject) -> list[Score]:
    """The metrics of every case of the subject's test set, in its order."""
    scores = []
    data = subject.data
    for index, predicted in enumerate(segmenter.masks(subject.weights, data)):
        _, truth = data.example(index)
        case, metrics = data.case(index), case_metrics(predicted, truth)
        scores.append(Score(case.case, data.dataset(index), data.organ(index), metrics, case.site))
    return scores


def make_rows(subject: Subject, scores: Sequence[Score], compared: Sequence[Score] | None) -> list[Row]:
    """The subject's row over all its cases, then one an organ where it has several.

    An unseen site is named beside its organ: its cases are never pooled with those of other sites.
    """
    organs = list(dict.fromkeys(score.organ for score in scores))
    rows = [_row(subject, ALL_ORGANS if len(organs) > 1 else organs[0], scores, compared)] if organs else []
    if len(organs) > 1:
        rows += [
            _row(subject, organ, _of_organ(scores, organ), _of_organ(compared, organ) if compared else None)
            for organ in organs
        ]
    return rows


def _of_organ(scores: Sequence[Score], organ: str) -> list[Score]:
    return [score for score in scores if score.organ == organ]


def _row(subject: Subject, organ: str, scores: Sequence[Score], compared: Sequence[Score] | None) -> Row:
    gain = None
    if compared is not None:
        pairs = zip(scores, compared, strict=True)
        gain = summarise(ours.metrics["dice"] - theirs.metrics["dice"] for ours, theirs in pairs)
    return Row(
        label=subject.label,
        modality=subject.modality,
        organ=f"{organ}, {subject.unseen} (unseen)" if subject.unseen else organ,
        n=len(scores),
        metrics=_summaries(scores),
        compared=None if compared is None else _summaries(compared),
        dice_gain=gain,
        unseen=subject.unseen,
    )


def _summaries(scores: Sequence[Score]) -> dict[str, Summary]:
    return {name: summarise(score.metrics[name] for score in scores) for name in METRICS}
