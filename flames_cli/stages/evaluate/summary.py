"""Summary of an evaluation: one line per model, of complete volumes where there are any and of images else.

Also the fairness between clients.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flames_cli.core.scores.metrics import Summary
from flames_cli.core.scores.summaries import summarise_seeds
from flames_cli.stages.evaluate.parts import Part, has_lesion, name_organs, values_of
from flames_cli.stages.evaluate.rows import penalised_of
from flames_cli.store.evaluations import CaseScore, VolumeScore

Protocol = Literal["volumes", "images"]
"""Cases of a line: complete volumes, or stills and slices of incomplete volumes."""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """Scores of one model on the volumes or on the images of its test set."""

    split: str
    """client_test or server_test."""
    label: str
    modality: str
    organ: str
    unseen: str
    """The unseen site of the cases, which no client has trained on; else empty."""
    datasets: tuple[str, ...]
    protocol: Protocol
    n: int
    n_patients: int
    dice: Summary
    unit: str
    """Unit of the distance: mm, px (pixels of the source image), or empty if there is no case with a
    lesion."""
    hd95: Summary
    """Over the cases with a lesion of which the model finds something."""
    penalised: Summary
    """The same with the diagonal of the image or volume for each case of which the model finds nothing."""

    @property
    def missed(self) -> int:
        """Number of cases with a lesion of which the model finds nothing; the most of all seeds."""
        return self.penalised.n - self.hd95.n

    def cells(self) -> dict[str, Any]:
        """Return the line by column: that of the CSV and of evaluation.json."""
        return {
            "model": self.label,
            "modality": self.modality,
            "organ": self.organ,
            "dataset": " ".join(self.datasets),
            "unseen_site": self.unseen,
            "protocol": self.protocol,
            "n": self.n,
            "patients": self.n_patients,
            "dice_mean": self.dice.mean,
            "dice_sd": self.dice.sd,
            "distance_unit": self.unit,
            "hd95_mean": self.hd95.mean,
            "hd95_sd": self.hd95.sd,
            "hd95_n": self.hd95.n,
            "hd95_penalised": self.penalised.mean,
            "hd95_penalised_n": self.penalised.n,
        }


def make_summary(images: Sequence[Part[CaseScore]], volumes: Sequence[Part[VolumeScore]]) -> list[SummaryRow]:
    """Return the lines of the models: of their complete volumes, and of the images in no such volume.

    Args:
        images: stills and selected slices of each model, as `pool_runs` returns them.
        volumes: complete volumes of each model.
    """
    rows = (by_protocol(model, volumes) for model in images)
    return [_make_row(part, protocol) for parts in rows for part, protocol in parts]


def by_protocol(
    model: Part[CaseScore], volumes: Sequence[Part[VolumeScore]]
) -> Iterator[tuple[Part[Any], Protocol]]:
    """Yield the complete volumes of a model, and its images in no such volume, if there are any."""
    complete = set()
    for part in volumes:
        if _names(part) == _names(model) and part.cases:
            complete |= {(score.dataset, score.volume) for score in part.cases}
            yield part, "volumes"
    rest = model.only(lambda score: (score.dataset, score.volume) not in complete)
    if rest.cases:
        yield rest, "images"


def _names(part: Part[Any]) -> tuple[str, ...]:
    return part.split, part.label, part.modality, part.unseen


def _make_row(part: Part[Any], protocol: Protocol) -> SummaryRow:
    ill = part.only(has_lesion)
    unit = _find_unit(ill)
    distance = f"hd95_{unit or 'mm'}"
    return SummaryRow(
        split=part.split,
        label=part.label,
        modality=part.modality,
        organ=name_organs((score.organ for score in part.cases), part.unseen),
        unseen=part.unseen,
        datasets=tuple(dict.fromkeys(score.dataset for score in part.cases)),
        protocol=protocol,
        n=len(part.cases),
        n_patients=len(set(part.people)),
        dice=summarise_seeds(values_of(part, "dice")),
        unit=unit,
        hd95=summarise_seeds(values_of(ill, distance)),
        penalised=summarise_seeds(penalised_of(ill, distance)),
    )


def _find_unit(ill: Part[Any]) -> str:
    """Return the unit that all cases have: mm, else pixels for images; empty if there is none."""
    if not ill.cases:
        return ""
    if all(score.hd95_mm is not None for score in ill.cases):
        return "mm"
    return "px" if all(getattr(score, "hd95_px", None) is not None for score in ill.cases) else ""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Spread of the mean Dice over the lines of the clients."""

    n: int
    """Number of lines, one for each client, two for one with volumes and images."""
    mean: float
    sd: float
    """Standard deviation over the lines (n - 1)."""
    worst: str
    worst_dice: float
    best: str
    best_dice: float

    @property
    def spread(self) -> float:
        """Best minus worst mean Dice."""
        return self.best_dice - self.worst_dice

    def as_json(self) -> dict[str, Any]:
        """Return the entry of evaluation.json."""
        return {
            "n": self.n,
            "dice_mean": self.mean,
            "dice_sd": self.sd,
            "worst": self.worst,
            "worst_dice": self.worst_dice,
            "best": self.best,
            "best_dice": self.best_dice,
            "spread": self.spread,
        }


def find_fairness(rows: Sequence[SummaryRow]) -> Fairness | None:
    """Return the spread of the clients' mean Dice; None with fewer than two lines."""
    known = [row for row in rows if not math.isnan(row.dice.mean)]
    if len(known) < 2:
        return None
    means = [row.dice.mean for row in known]
    worst, best = (choose(known, key=lambda row: row.dice.mean) for choose in (min, max))
    return Fairness(
        n=len(known),
        mean=statistics.fmean(means),
        sd=statistics.stdev(means),
        worst=worst.label,
        worst_dice=worst.dice.mean,
        best=best.label,
        best_dice=best.dice.mean,
    )
