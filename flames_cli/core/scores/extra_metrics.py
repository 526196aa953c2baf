"""Metrics of plug-ins: functions of a predicted and a true mask, whose results are checked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.scores.metric_names import COMPARED
from flames_cli.errors import FlamesError
from flames_cli.plugins import RAISED, Origin, Registry, describe_error

Measure = Callable[[NDArray[np.bool_], NDArray[np.bool_], tuple[float, ...]], float | None]
"""measure(predicted, truth, spacing_mm) returns the value of one case, from two masks of H×W or D×H×W and the
size of a pixel (voxel) in mm by axis, NaN where it is not known; None if the metric is not defined."""


@dataclass(frozen=True, slots=True)
class ExtraMetric:
    """A metric of a plug-in."""

    name: str
    measure: Measure
    plugin: str
    """Package and version."""
    higher_is_better: bool = True
    unit: str = ""

    def value(
        self, masks: tuple[NDArray[Any], NDArray[Any]], spacing_mm: Sequence[float], case: str
    ) -> float | None:
        """Return the value of one case; infinity means that the model missed it.

        Args:
            masks: the predicted and the true mask, of 0 and 1.
            spacing_mm: size of a pixel (voxel) by axis; NaN where it is not known.
            case: name of the case, for messages.

        Raises:
            FlamesError: the plug-in fails, or gives no number.
        """
        predicted, truth = (mask.astype(bool) for mask in masks)  # copies, which the plug-in may change
        try:
            found = self.measure(predicted, truth, tuple(map(float, spacing_mm)))
        except RAISED as error:
            raise FlamesError(
                f"metric '{self.name}' of {self.plugin} fails for case {case} ({describe_error(error)}); "
                "correct the plug-in, or leave --metric out"
            ) from error
        if found is None:
            return None
        if isinstance(found, np.ndarray) and found.ndim == 0:
            found = found.item()
        if not isinstance(found, Real | np.bool_) or math.isnan(float(found)):
            raise FlamesError(
                f"metric '{self.name}' of {self.plugin} gives {found!r:.80} for case {case}, expected a "
                "number, infinity for a missed case, or None; correct the plug-in, or leave --metric out"
            )
        return float(found)

    @property
    def facts(self) -> dict[str, Any]:
        """Entry of evaluation.json about the metric."""
        return {"plugin": self.plugin, "higher_is_better": self.higher_is_better, "unit": self.unit}


def extra_metrics(names: Sequence[str]) -> list[ExtraMetric]:
    """Return the metrics of plug-ins with these names.

    Raises:
        FlamesError: one is not known, its plug-in cannot be used, or every evaluation has it.
    """
    for name in names:
        if name in COMPARED:
            raise FlamesError(
                f"got --metric {name}, which every evaluation has, expected a metric of a plug-in; leave it "
                "out"
            )
    return [METRICS.look_up(name) for name in names]


def _fault(found: object) -> str:
    """Return what is wrong with a plug-in's object; "" if it is a metric."""
    if not callable(found) or isinstance(found, type):
        return f"it is a {'class' if isinstance(found, type) else type(found).__name__}, expected a function"
    if type(higher := getattr(found, "higher_is_better", True)) is not bool:
        return f"its higher_is_better is {higher!r:.80}, expected True or False"
    unit = getattr(found, "unit", "")
    if not (isinstance(unit, str) and len(unit) <= 20 and (not unit or unit.isprintable())):
        return f"its unit is {unit!r:.80}, expected a text of at most 20 letters"
    return ""


def _adapt(found: Any, origin: Origin) -> ExtraMetric:
    return ExtraMetric(
        name=origin.name,
        measure=found,
        plugin=str(origin),
        higher_is_better=getattr(found, "higher_is_better", True),
        unit=getattr(found, "unit", ""),
    )


METRICS: Registry[ExtraMetric] = Registry(
    "metrics", {}, check=_fault, adapt=_adapt, reserved={name: name for name in COMPARED}
)
"""Metrics of plug-ins by name."""
