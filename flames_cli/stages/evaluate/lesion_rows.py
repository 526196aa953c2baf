"""Table of small and large lesions: Dice by size, lesions found, and gains with their intervals; false
positives on images without a lesion."""

from dataclasses import dataclass
from typing import Any

from flames_cli.core.scores.detection import LesionCounts, pool_counts
from flames_cli.core.scores.intervals import Interval
from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.evaluate.parts import Part, SeedScores, values_of
from flames_cli.stages.evaluate.rows import interval_as_json, number_or_null, summary_as_json

SIZES = ("small", "large", "lesion", "all")
"""Cases with small lesions; with large ones; with either; and all cases, with those whose true mask is
empty."""


@dataclass(frozen=True, slots=True)
class SizeScores:
    """Summary of the cases of one size."""

    dice: Summary
    lesions: LesionCounts
    """Sums over all cases and seeds."""
    n_patients: int
    n_seeds: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the entry for summary.json; a ratio without cases is null."""
        return {
            "n": self.dice.n,
            "patients": self.n_patients,
            "dice": summary_as_json(self.dice),
            "lesions": self.lesions.n,
            "lesions_found": self.lesions.found,
            "lesions_predicted": self.lesions.n_predicted,
            "lesions_right": self.lesions.n_right,
            "recall": number_or_null(self.lesions.recall()),
            "precision": number_or_null(self.lesions.precision()),
        }


@dataclass(frozen=True, slots=True)
class FalsePositives:
    """Predictions on the cases whose true mask is empty."""

    scores: SizeScores
    """All parts of their predictions are false lesions."""
    n_marked: int
    """Number of cases with any predicted pixel, over all seeds."""
    area: float
    """Mean share of the image that is predicted, 0..1."""

    @property
    def n(self) -> int:
        """Number of cases."""
        return self.scores.dice.n

    @property
    def lesions_per_image(self) -> float:
        """Mean number of false lesions of a case."""
        return self.scores.lesions.n_predicted / (self.n * self.scores.n_seeds)

    @property
    def share_marked(self) -> float:
        """Share of the cases with any predicted pixel."""
        return self.n_marked / (self.n * self.scores.n_seeds)

    def as_json(self) -> dict[str, Any]:
        """Return the entry for summary.json."""
        return {
            "n": self.n,
            "patients": self.scores.n_patients,
            "with_prediction": self.n_marked,
            "share_with_prediction": self.share_marked,
            "false_lesions": self.scores.lesions.n_predicted,
            "false_lesions_per_image": self.lesions_per_image,
            "false_area": self.area,
        }


@dataclass(frozen=True, slots=True)
class LesionRow:
    """One line of the table: each size of SIZES, compared with another run if there is one."""

    label: str
    modality: str
    """Empty if models of several modalities are pooled."""
    organ: str
    sizes: dict[str, SizeScores]
    compared: dict[str, SizeScores] | None = None
    gains: dict[str, Interval] | None = None
    """Gains of this run's Dice over the other's, paired case by case."""
    unseen: str = ""
    """The unseen sites of the cases, which no client has trained on; else empty."""
    healthy: FalsePositives | None = None
    """False positives on images without a lesion; None if there is no such image."""
    compared_healthy: FalsePositives | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry for summary.json; a mean without cases, or a limit that is not defined, is
        null."""
        plain: dict[str, Any] = {
            "model": self.label,
            "modality": self.modality or None,
            "organ": self.organ,
            "unseen_site": self.unseen or None,
            "sizes": {size: value.as_json() for size, value in self.sizes.items()},
            "no_lesion": self.healthy.as_json() if self.healthy else None,
        }
        if self.compared is not None and self.gains is not None:
            plain["compared"] = {size: value.as_json() for size, value in self.compared.items()}
            plain["compared_no_lesion"] = self.compared_healthy.as_json() if self.compared_healthy else None
            plain["dice_gain"] = {size: interval_as_json(value) for size, value in self.gains.items()}
        return plain


def make_lesion_row(part: Part, seed: int) -> LesionRow:
    """Summarise the cases of `part` by size; `seed` is the seed of the intervals' draws."""
    return LesionRow(
        label=part.label,
        modality=part.modality,
        organ=part.organ,
        sizes=_by_size(part.scores),
        compared=None if part.compared is None else _by_size(part.compared),
        gains=_gains(part, seed),
        unseen=part.unseen,
        healthy=_false_positives(part.scores),
        compared_healthy=None if part.compared is None else _false_positives(part.compared),
    )


def _by_size(scores: SeedScores) -> dict[str, SizeScores]:
    return {
        size: _summarise([[score for score in row if has_size(score.lesion, size)] for row in scores])
        for size in SIZES
    }


def has_size(lesion: str, size: str) -> bool:
    """Return whether a case whose lesions are `lesion` (small, large, none) counts among `size` of SIZES."""
    return size == "all" or lesion == size or (size == "lesion" and lesion != "none")


def _summarise(scores: SeedScores) -> SizeScores:
    return SizeScores(
        summarise_seeds(values_of(scores, "dice")),
        pool_counts(score.lesions for row in scores for score in row),
        len({score.person for score in scores[0]}),
        len(scores),
    )


def _false_positives(scores: SeedScores) -> FalsePositives | None:
    healthy = [[score for score in row if score.lesion == "none"] for row in scores]
    if not healthy[0]:
        return None
    return FalsePositives(
        scores=_summarise(healthy),
        n_marked=sum(score.lesions.n_predicted > 0 for row in healthy for score in row),
        # Every predicted pixel is wrong there, and every other pixel is right.
        area=float((1 - values_of(healthy, "pixel_accuracy")).mean()),
    )


def _gains(part: Part, seed: int) -> dict[str, Interval] | None:
    gains = {size: _only(part, size).gain_interval(seed) for size in SIZES}
    return {size: gain for size, gain in gains.items() if gain} or None


def _only(part: Part, size: str) -> Part:
    return part.only(lambda score: has_size(score.lesion, size))
