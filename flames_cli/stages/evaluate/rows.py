"""Tables of all metrics: one line per model, organ, data set or site, of images or of volumes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flames_cli.core.scores.intervals import Interval, bootstrap_interval
from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.evaluate.parts import Part, ScoreT, has_lesion, matrix_of, values_of
from flames_cli.store.evaluations import CaseScore, VolumeScore

BOUNDED = ("iou", "dice", "pixel_accuracy")
"""Metrics of images with an interval: a distance that some models do not have would be one over other
cases."""
RATIOS = (*BOUNDED, "majority_accuracy")
DISTANCES = ("hausdorff_px", "hd95_px", "hd95_mm", "assd_px", "assd_mm")
"""Distances of images; their means are over images with a lesion."""

VOLUME_BOUNDED = ("dice",)
VOLUME_RATIOS = (
    *("dice", "sensitivity", "precision", "nsd_2mm"),
    *("volume_ml", "predicted_ml", "volume_error_ml", "abs_volume_error_ml"),
)
"""Metrics of volumes; their means are over all volumes for which they are defined."""
VOLUME_DISTANCES = ("hd95_mm", "assd_mm")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: `n` images or volumes, summarised per metric.

    With several seeds, summaries are of the seeds' means (`summarise_seeds`).
    """

    label: str
    modality: str
    organ: str
    dataset: str
    site: str
    unseen: str
    """The unseen site of the cases, which no client has trained on; else empty."""
    n: int
    n_patients: int
    metrics: Mapping[str, Summary]
    penalised: Mapping[str, Summary]
    """Means of the distances with the diagonal of the image (volume) for each case that was missed."""
    intervals: Mapping[str, Interval]
    """Intervals of means, over patients and seeds."""
    by_seed: Sequence[float]
    """Mean Dice of each seed (for server models of each seed and fold), in order."""

    def cells(self) -> dict[str, Any]:
        """Return the line by column: that of the CSV and of evaluation.json."""
        line: dict[str, Any] = {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "dataset": self.dataset,
            "site": self.site,
            "unseen_site": self.unseen,
            "n": self.n,
            "patients": self.n_patients,
            "seeds": len(self.by_seed),
        }
        for name, value in self.metrics.items():
            line |= {f"{name}_mean": value.mean, f"{name}_sd": value.sd, f"{name}_n": value.n}
            if name in self.penalised:
                line[f"{name}_penalised"] = self.penalised[name].mean
                line[f"{name}_penalised_n"] = self.penalised[name].n
        for name, limits in self.intervals.items():
            line |= {f"{name}_low": limits.low, f"{name}_high": limits.high}
        return {**line, "dice_by_seed": list(self.by_seed)}


def make_row(part: Part[CaseScore], seed: int) -> Row:
    """Summarise the images of `part`; `seed` is the seed of the intervals' draws."""
    return _make_row(part, RATIOS, DISTANCES, BOUNDED, seed)


def make_volume_row(part: Part[VolumeScore], seed: int) -> Row:
    """Summarise the volumes of `part`; `seed` is the seed of the intervals' draws."""
    return _make_row(part, VOLUME_RATIOS, VOLUME_DISTANCES, VOLUME_BOUNDED, seed)


def _make_row(
    part: Part[ScoreT], ratios: Sequence[str], distances: Sequence[str], bounded: Sequence[str], seed: int
) -> Row:
    ill = part.only(has_lesion)
    metrics = {name: summarise_seeds(values_of(part, name)) for name in ratios}
    return Row(
        label=part.label,
        modality=part.modality,
        organ=part.organ,
        dataset=part.dataset,
        site=part.site,
        unseen=part.unseen,
        n=len(part.cases),
        n_patients=len(set(part.people)),
        metrics=metrics | {name: summarise_seeds(values_of(ill, name)) for name in distances},
        penalised={name: summarise_seeds(penalised_of(ill, name)) for name in distances},
        intervals={name: bootstrap_interval(matrix_of(part, name), part.people, seed) for name in bounded},
        by_seed=[float(mean) for mean in matrix_of(part, "dice").mean(axis=1)],
    )


def penalised_of(part: Part[ScoreT], distance: str) -> list[list[float]]:
    """Return a distance by seed and case, the diagonal of the image or volume where it is infinite: where the
    model finds nothing.

    Cases for which it is not known are left out.
    """
    rows = ([penalise(score, distance) for score in row] for row in part.scores)
    return [[value for value in row if value is not None] for row in rows]


def penalise(score: CaseScore | VolumeScore, distance: str) -> float | None:
    """Return a distance of a case, its diagonal if the distance is infinite; None if it is not known."""
    value: float | None = getattr(score, distance)
    return _diagonal_of(score, distance) if value is not None and math.isinf(value) else value


def _diagonal_of(score: CaseScore | VolumeScore, distance: str) -> float:
    """Return the largest possible distance of a case in the unit of `distance`; NaN if it is not known.

    The Hausdorff distance of the paper is in pixels of the stored square, whose sides have as many pixels as
    the root of their number.
    """
    if distance == "hausdorff_px":
        return math.sqrt(2 * (score.tp + score.fp + score.fn + score.tn))
    found = getattr(score, "diagonal_mm" if distance.endswith("_mm") else "diagonal_px")
    return math.nan if found is None else float(found)
