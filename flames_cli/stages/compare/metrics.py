"""Metrics of a comparison: the value of each in one line of cases.csv or volumes.csv."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flames_cli.core.scores.extra_metrics import METRICS
from flames_cli.core.scores.metrics import Counts
from flames_cli.errors import FlamesError
from flames_cli.stages.evaluate.parts import has_lesion
from flames_cli.stages.evaluate.rows import penalise
from flames_cli.store.evaluations import METRIC, CaseScore, VolumeScore

Score: TypeAlias = CaseScore | VolumeScore
Reader: TypeAlias = Callable[[Any], float | None]


@dataclass(frozen=True, slots=True)
class Column:
    """One metric, in one unit.

    The value of a score is None where the metric is not known, and infinite where a model missed the case.
    """

    title: str
    of_case: Reader
    """Value of a line of cases.csv."""
    of_volume: Reader
    """Value of a line of volumes.csv."""
    higher_is_better: bool = True
    scale: float = 1.0
    """Factor of the shown values."""
    digits: int = 3
    """Decimals of the shown values."""
    unit: str = ""

    def value(self, score: Score) -> float | None:
        """Return the value of one case or volume."""
        return self.of_volume(score) if isinstance(score, VolumeScore) else self.of_case(score)

    def shown(self, value: float, sign: str = "") -> str:
        """Return `value` with the decimals of the metric; `sign` "+" shows the sign of a difference."""
        return f"{self.scale * value:{sign}.{self.digits}f}"


def _counts(score: Any) -> Counts:
    return Counts(score.tp, score.fp, score.fn, score.tn)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _field(name: str) -> Reader:
    return lambda score: getattr(score, name)


def _distance(name: str) -> Reader:
    """Return a distance as `flames evaluate` counts it: of cases with a lesion only."""
    return lambda score: getattr(score, name) if has_lesion(score) else None


def _penalised(name: str) -> Reader:
    """Return a distance of cases with a lesion, the diagonal of the image for a missed one."""

    def read(score: Any) -> float | None:
        value = penalise(score, name) if has_lesion(score) else None
        return None if value is None or math.isnan(value) else value

    return read


def _lesion_f1(score: Any) -> float | None:
    if score.lesions is None or score.lesions_predicted is None or score.lesions_matched is None:
        return None
    return _ratio(2 * score.lesions_matched, score.lesions + score.lesions_predicted)


def _unknown(_: Any) -> None:
    return None


def _distances() -> dict[str, Column]:
    """Return each distance over the cases that a model did not miss, and with a penalty for the others."""
    titles = {"hd95": "HD95", "assd": "ASSD", "hausdorff": "Hausdorff"}
    found: dict[str, Column] = {}
    for name in ("hd95_mm", "hd95_px", "assd_mm", "assd_px", "hausdorff_px"):
        title, unit = titles[name.rpartition("_")[0]], name.rpartition("_")[2]
        for column, read in ((name, _distance(name)), (f"{name}_penalised", _penalised(name))):
            of_volume = read if unit == "mm" else _unknown
            found[column] = Column(title, read, of_volume, higher_is_better=False, digits=1, unit=unit)
    return found


_BUILT_IN: dict[str, Column] = {
    "dice": Column("Dice", _field("dice"), _field("dice")),
    "iou": Column("IoU", _field("iou"), lambda score: _counts(score).iou()),
    "pixel_accuracy": Column(
        "accuracy %",
        _field("pixel_accuracy"),
        lambda score: _counts(score).pixel_accuracy(),
        scale=100,
        digits=2,
    ),
    "sensitivity": Column(
        "sensitivity", lambda score: _ratio(score.tp, score.tp + score.fn), _field("sensitivity")
    ),
    "precision": Column(
        "precision", lambda score: _ratio(score.tp, score.tp + score.fp), _field("precision")
    ),
    **_distances(),
    "nsd_2mm": Column("surface Dice at 2 mm", _unknown, _field("nsd_2mm")),
    "volume_error_ml": Column(
        "absolute volume error",
        _unknown,
        _field("abs_volume_error_ml"),
        higher_is_better=False,
        digits=2,
        unit="ml",
    ),
    "lesion_f1": Column("lesion F1", _lesion_f1, _lesion_f1),
}


class _Columns(dict[str, Column]):
    """The metrics; those of plug-ins are made when they are looked up."""

    def __missing__(self, column: str) -> Column:
        """Return the metric of a plug-in, whose column is called `metric_NAME`.

        Raises:
            FlamesError: no plug-in has such a metric.
        """
        name = column.removeprefix(METRIC)
        found = METRICS.look_up(name)

        def read(score: Score) -> float | None:
            return score.metrics.get(name)

        return Column(name, read, read, higher_is_better=found.higher_is_better, unit=found.unit)


class _Options(dict[str, tuple[str, ...]]):
    """The values of --metric; other values are names of plug-ins' metrics."""

    def __missing__(self, option: str) -> tuple[str, ...]:
        return (f"{METRIC}{option}",)


COLUMNS = _Columns(_BUILT_IN)
"""Each metric by its name in the CSVs."""

OPTIONS = _Options(
    {
        "dice": ("dice",),
        "iou": ("iou",),
        "accuracy": ("pixel_accuracy",),
        "sensitivity": ("sensitivity",),
        "precision": ("precision",),
        "hd95": ("hd95_mm_penalised", "hd95_px_penalised"),
        "assd": ("assd_mm_penalised", "assd_px_penalised"),
        "hausdorff": ("hausdorff_px_penalised",),
        "nsd": ("nsd_2mm",),
        "volume-error": ("volume_error_ml",),
        "lesion-f1": ("lesion_f1",),
    }
)
"""Columns of each value of --metric: a row of a table has the first that all its cases have in all runs."""


def of_plugins(options: Sequence[str]) -> tuple[str, ...]:
    """Return those values of --metric that are metrics of plug-ins.

    Raises:
        FlamesError: one is neither that nor built in.
    """
    found = tuple(option for option in options if option not in OPTIONS)
    for option in found:
        try:
            METRICS.look_up(option)
        except FlamesError as error:
            raise FlamesError(f"{error} (every comparison has {', '.join(OPTIONS)})") from error
    return found


def without_penalty(column: str) -> str:
    """Return the name of the metric over the cases that no model missed; the same name for other metrics."""
    return column.removesuffix("_penalised")
