"""Limit on the distance between a report and the model that its client received.

A client whose numbers are finite and of the right shape may still send a model scaled by a thousand, because
of an attack or a bug, and one such report spoils a mean (Blanchard et al. 2017, proposition 1).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median_low

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.blocks import Blocks, compute, make_scratch, widen_into
from flames_cli.core.federated.reports import Entries, LastReport, Moved, Report, floats_of, select

DIGITS = 6
"""Significant digits of a stored norm: the last digits of a sum of squares differ between machines."""

FEWEST = 2
"""Number of other clients of a group that a client is compared with immediately. Of two clients the one that
moved less is assumed to be good, since a fault seldom makes a model move too little."""

MOST_STEPS = 10.0
"""Largest factor by which more steps allow a client to move further. The number of steps follows from the
number of images, which the client itself states: without a limit it could allow any distance."""


@dataclass(frozen=True, slots=True)
class NormLimit:
    """Limit on how far a client may move its model, relative to the median client."""

    factor: float = math.inf
    """Largest distance in units of the median distance, above 1; infinite: no limit."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rate by client, by which a norm is divided; 1 for a client without an entry."""

    @property
    def is_set(self) -> bool:
        """True if there is a limit."""
        return not math.isinf(self.factor)

    def rejection_reason(
        self, report: Report, moved: Moved, group: Iterable[Moved], elsewhere: Iterable[Moved] = ()
    ) -> str | None:
        """Return why `report` moved too far; None if it did not.

        Each part of a report (weights, statistics, …) is judged separately. A part moved too far if it
        exceeds the limit both for the median of its model group and for the median of all clients, each with
        this client included; of an even number of clients, the lower middle one is the median.

        The median of the group is needed because the distance depends on how long a model has been trained,
        and a group's first client may join in any round. The median of all is needed so that one of two
        clients does not look too far only because the other one hardly moves. A client that made k times the
        steps of the median client, up to MOST_STEPS, may move k times as far.

        Args:
            report: report of the client.
            moved: distance of this report, as `measure` returns it.
            group: distances of the other clients of the model group.
            elsewhere: distances of the clients of the other model groups.
        """
        if not self.is_set:
            return None
        near = [*group, moved]
        for part, norm in moved.norms.items():
            usual, count = max(_usual(part, report.n_steps, among) for among in (near, [*near, *elsewhere]))
            if norm > self.factor * usual:
                return (
                    f"its {part} moved {norm / usual:.3g} times as far as the median of {count} clients', "
                    f"expected at most {self.factor:g} times (--max-update-norm)"
                )
        return None

    def measure(self, report: Report, start: Weights, entries: Entries) -> Moved:
        """Return the distance of each part of `report` from `start`.

        The distance of what training moves is divided by the client's learning rate.
        """
        rate = self.rates.get(report.client, 1.0)
        trainable = report.weights.keys() & entries.trainable
        parts = {
            "weights": distance(select(report.weights, trainable), start) / rate,
            # These are means over images, which do not depend on the learning rate.
            "statistics": distance(select(report.weights, report.weights.keys() - trainable), start),
        }
        if report.control is not None:
            # A control variate is a mean over steps, so it is large if there are few steps, also of a good
            # client; multiplied by the number of steps, it can be compared.
            parts["control variate"] = distance(report.control, {}) * max(report.n_steps, 1)
        if report.style is not None:
            # A decoder that the server never sends has no start: its distance is its own norm, which does
            # not depend on the learning rate.
            sent = report.style.keys() <= start.keys()
            parts["image decoder"] = distance(report.style, start) / (rate if sent else 1.0)
        return Moved(
            norms={part: _round(norm) for part, norm in parts.items()},
            steps=report.n_steps,
        )


NO_LIMIT = NormLimit()


def _usual(part: str, n_steps: int, among: Iterable[Moved]) -> tuple[float, int]:
    """Return the distance of the median client in `n_steps` steps, and the number of clients that moved."""
    known = list(among)
    norms = [one.norms[part] for one in known if one.norms.get(part, 0.0) > 0.0]
    extra = n_steps / max(median_low([one.steps for one in known]), 1)
    return (min(max(1.0, extra), MOST_STEPS) * median_low(norms) if norms else 0.0), len(norms)


def known_moves(clients: Mapping[str, LastReport], client: str) -> dict[str, LastReport]:
    """Return the last accepted report of every client except `client` whose distance is known."""
    return {name: last for name, last in clients.items() if name != client and last.moved.norms}


def distance(weights: Weights, start: Weights) -> float:
    """Return ‖weights − start‖₂ over all floats, in float64; an entry missing in `start` counts as 0."""

    def squares(blocks: Blocks) -> list[float]:
        """Return the sum of squares of each block."""
        scratch, found = make_scratch(), []
        for values, *before in blocks:
            moved = widen_into(scratch, values)
            if before:
                moved -= before[0]
            found.append(float(np.square(moved, out=moved).sum()))
        return found

    entries = floats_of(weights)
    groups = [(array, start[name]) if name in start else (array,) for name, array in entries.items()]
    # Added one after the other, so that the number of threads does not change how the sum is rounded.
    return math.sqrt(sum(square for part in compute(squares, groups) for square in part))


def _round(norm: float) -> float:
    return float(f"{norm:.{DIGITS}g}")
