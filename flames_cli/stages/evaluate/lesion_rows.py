"""Tables of small and large lesions: Dice by size, lesions found, and false positives on images (volumes)
without a lesion."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flames_cli.core.scores.detection import LesionMatches
from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.evaluate.parts import Part, ScoreT, has_lesion, values_of
from flames_cli.store.evaluations import CaseScore, VolumeScore

SIZES = ("small", "large", "lesion", "all")
"""Images with small lesions; with large ones; with either; and all images, with those whose true mask is
empty."""


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """Predictions on the cases whose true mask is empty."""

    n: int
    """Number of cases."""
    n_patients: int
    rate: float
    """Share of the cases (over all seeds) with any predicted pixel, in [0, 1]."""
    area: float
    """Mean share of the case that is predicted, in [0, 1]."""
    found: LesionMatches
    """All predicted lesions are false."""
    predicted_ml: float = math.nan
    """Mean predicted volume in ml; NaN for images."""


@dataclass(frozen=True, slots=True)
class SizeScores:
    """Summary of the cases of one size."""

    dice: Summary
    n_patients: int
    found: LesionMatches
    """Sums over cases and seeds; `images` is the number of cases times seeds."""


@dataclass(frozen=True, slots=True)
class LesionRow:
    """Lines of one model, organ or data set in the table by size of lesion."""

    label: str
    modality: str
    """Empty if models of several modalities are pooled."""
    organ: str
    dataset: str
    unseen: str
    """The unseen sites of the cases, which no client has trained on; else empty."""
    sizes: Mapping[str, SizeScores]
    healthy: FalsePositives | None
    """False positives on images without a lesion; None if there is no such image."""

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines by column, as in the CSV and in evaluation.json: one of the images without a lesion
        if there are any, and one per size."""
        names = {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "dataset": self.dataset,
            "unseen_site": self.unseen,
        }
        nothing: dict[str, Any] = {"false_positive_rate": math.nan, "false_area": math.nan}
        if (found := self.healthy) is not None:
            yield {
                **names,
                **{"lesion": "none", "n": found.n, "patients": found.n_patients},
                **{"dice_mean": math.nan, "dice_sd": math.nan},
                **lesion_cells(found.found, "image"),
                **{"false_positive_rate": found.rate, "false_area": found.area},
            }
        for size, scores in self.sizes.items():
            yield {
                **names,
                **{"lesion": size, "n": scores.dice.n, "patients": scores.n_patients},
                **{"dice_mean": scores.dice.mean, "dice_sd": scores.dice.sd},
                **lesion_cells(scores.found, "image"),
                **nothing,
            }


def make_lesion_row(part: Part[CaseScore]) -> LesionRow:
    """Summarise the images of `part` by size of lesion."""
    return LesionRow(
        label=part.label,
        modality=part.modality,
        organ=part.organ,
        dataset=part.dataset,
        unseen=part.unseen,
        sizes={size: _summarise(_only_size(part, size)) for size in SIZES},
        healthy=find_false_positives(part),
    )


def has_size(lesion: str, size: str) -> bool:
    """Return whether an image whose lesions are `lesion` (small, large, none) counts among `size` of
    SIZES."""
    return size == "all" or lesion == size or (size == "lesion" and lesion != "none")


def _only_size(part: Part[CaseScore], size: str) -> Part[CaseScore]:
    return part.only(lambda score: has_size(score.lesion, size))


def _summarise(part: Part[CaseScore]) -> SizeScores:
    dice = summarise_seeds(values_of(part, "dice"))
    return SizeScores(dice, len(set(part.people)), sum_lesions(part))


def sum_lesions(part: Part[ScoreT]) -> LesionMatches:
    """Return the sums of the lesions over all cases and seeds; cases without counts are left out."""
    scores = [score for row in part.scores for score in row if score.lesions is not None]
    return LesionMatches(
        lesions=_sum(score.lesions for score in scores),
        predicted=_sum(score.lesions_predicted for score in scores),
        matched=_sum(score.lesions_matched for score in scores),
        images=len(scores),
    )


def _sum(counts: Iterable[int | None]) -> int:
    return sum(count or 0 for count in counts)


def lesion_cells(found: LesionMatches, unit: str) -> dict[str, Any]:
    """Return the columns of found lesions; `unit` is image or volume."""
    return {
        "lesions": found.lesions,
        "lesions_predicted": found.predicted,
        "lesions_matched": found.matched,
        "recall": found.recall(),
        "precision": found.precision(),
        "f1": found.f1(),
        f"false_lesions_per_{unit}": found.false_positives_per_image(),
    }


def find_false_positives(part: Part[ScoreT]) -> FalsePositives | None:
    """Return the false positives on the cases without a lesion; None if there is no such case."""
    healthy = part.only(lambda score: not has_lesion(score))
    if not healthy.cases:
        return None
    scores: list[CaseScore | VolumeScore] = [score for row in healthy.scores for score in row]
    ml = [
        score.predicted_ml
        for score in scores
        if isinstance(score, VolumeScore) and score.predicted_ml is not None
    ]
    return FalsePositives(
        n=len(healthy.cases),
        n_patients=len(set(healthy.people)),
        rate=sum(score.fp > 0 for score in scores) / len(scores),
        area=sum(score.fp / (score.fp + score.tn) for score in scores) / len(scores),
        found=sum_lesions(healthy),
        predicted_ml=sum(ml) / len(ml) if ml else math.nan,
    )
