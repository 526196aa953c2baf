"""How far a report has moved from what its client was sent, and whether that is far outside of the others'.

A client whose numbers are finite and of the right shape may still send a model scaled by a thousand, out of
malice or of a fault, and one such report spoils a mean (Blanchard et al. 2017, proposition 1).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median_low

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Entries, LastReport, Moved, Report, floats_of, select
from flames_cli.core.federated.running_sum import in_blocks

DIGITS = 6
"""Kept of a norm, significant: it is for comparing, and sums of squares differ by machine in their last."""

FEWEST = 2
"""Others of a group that a client is compared with at once. Of two the one that moved less is taken for
sound, as a fault seldom moves a model too little."""

MOST_STEPS = 10.0
"""Times the median's steps that let a client go further: what it says of its images could buy it any way."""


@dataclass(frozen=True, slots=True)
class NormLimit:
    """How many times as far as the median client a client may move."""

    factor: float = math.inf
    """Above 1; infinite: as far as it will."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rate by client, which a norm is divided by; 1 where it is not named."""

    @property
    def is_set(self) -> bool:
        """Whether there is a limit at all."""
        return not math.isinf(self.factor)

    def rejection_reason(
        self, report: Report, moved: Moved, group: Iterable[Moved], elsewhere: Iterable[Moved] = ()
    ) -> str | None:
        """Why `report`, which has `moved`, is too far out, or None.

        It is where both the median of its `group` and that of all clients, itself among them, are exceeded,
        each part of the report by itself; of an even number the lower middle one counts. The group's, since
        how far a model moves depends on how long it has been trained, and its first client may join in any
        round; that of all, so that of two clients the one that hardly moves does not make the other look far.
        A client that made k times the median's steps, up to MOST_STEPS, may move k times as far.
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
        """How far `report` has moved from `start`, by part; what training moves at a learning rate of 1."""
        rate = self.rates.get(report.client, 1.0)
        trainable = report.weights.keys() & entries.trainable
        parts = {
            "weights": distance(select(report.weights, trainable), start) / rate,
            # Means of images and of gradients: the learning rate has no part in them.
            "statistics": distance(select(report.weights, report.weights.keys() - trainable), start),
        }
        if report.control is not None:
            # It is of a step: a client of few steps has a large one, which says nothing against it.
            parts["control variate"] = distance(report.control, {}) * max(report.n_steps, 1)
        if report.style is not None:
            # One that is never sent counts from zero: its whole size, not how far it was trained.
            sent = report.style.keys() <= start.keys()
            parts["image decoder"] = distance(report.style, start) / (rate if sent else 1.0)
        return Moved({part: _round(norm) for part, norm in parts.items()}, report.n_steps)


NO_LIMIT = NormLimit()


def _usual(part: str, n_steps: int, among: Iterable[Moved]) -> tuple[float, int]:
    """How far the median client would have moved in so many steps; of how many that moved at all."""
    known = list(among)
    norms = [one.norms[part] for one in known if one.norms.get(part, 0.0) > 0.0]
    extra = n_steps / max(median_low([one.steps for one in known]), 1)
    return (min(max(1.0, extra), MOST_STEPS) * median_low(norms) if norms else 0.0), len(norms)


def known_moves(clients: Mapping[str, LastReport], client: str) -> dict[str, LastReport]:
    """The last report that was taken of every other one of `clients`, where it is known how far it moved."""
    return {name: last for name, last in clients.items() if name != client and last.moved.norms}


def distance(weights: Weights, start: Weights) -> float:
    """‖weights − start‖₂ over all floats, in float64; entries that `start` lacks count from zero."""
    total = 0.0
    for name, array in floats_of(weights).items():
        before = start.get(name)
        for blocks in in_blocks(array) if before is None else in_blocks(array, before):
            moved = blocks[0].astype(np.float64)
            if before is not None:
                moved -= blocks[1]
            total += float(np.square(moved, out=moved).sum())
    return math.sqrt(total)


def _round(norm: float) -> float:
    return float(f"{norm:.{DIGITS}g}")
