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
from flames_cli.core.blending import in_blocks
from flames_cli.core.reports import Entries, Moved, Report, State, select

DIGITS = 6
"""Kept of a norm, significant: it is for comparing, and sums of squares differ by machine in their last."""

FEWEST = 2
"""Clients that can be compared. Of two the one that moved less is taken for sound, as a fault seldom moves a
model too little."""


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

    def refuse(self, report: Report, moved: Moved, others: Iterable[Moved]) -> str | None:
        """Why `report`, which has `moved`, is too far out, or None.

        The median is over `others` and itself, each part of the report by itself; of an even number the
        lower middle one. A client that made k times the median's steps may move k times as far.
        """
        known = [*others, moved]
        if not self.is_set or len(known) < FEWEST:
            return None
        extra = max(1.0, report.n_steps / max(median_low([one.steps for one in known]), 1))
        for part, norm in moved.norms.items():
            usual = [one.norms[part] for one in known if one.norms.get(part, 0.0) > 0.0]
            if len(usual) >= FEWEST and norm > self.factor * extra * median_low(usual):
                times = norm / (extra * median_low(usual))
                return (
                    f"its {part} moved {times:.3g} times as far as the median of {len(usual)} clients', "
                    f"expected at most {self.factor:g} times (--max-update-norm)"
                )
        return None

    def measure(self, report: Report, start: Weights, entries: Entries) -> Moved:
        """How far `report` has moved from `start`, by part, at a learning rate of 1."""
        rate = self.rates.get(report.client, 1.0)
        trainable = report.weights.keys() & entries.trainable
        parts = {
            "weights": distance(select(report.weights, trainable), start),
            "statistics": distance(select(report.weights, report.weights.keys() - trainable), start),
        }
        if report.control is not None:
            # It is of a step: a client of few steps has a large one, which says nothing against it.
            parts["control variate"] = distance(report.control, {}) * max(report.n_steps, 1)
        if report.style is not None:
            parts["image decoder"] = distance(report.style, start)
        return Moved({part: _round(norm / rate) for part, norm in parts.items()}, report.n_steps)


NO_LIMIT = NormLimit()


def known_moves(state: State) -> list[Moved]:
    """How far every client had moved in the last of its reports that was taken."""
    return [last.moved for last in state.clients.values() if last.moved.norms]


def distance(weights: Weights, start: Weights) -> float:
    """‖weights − start‖₂ over all floats, in float64; entries that `start` lacks count from zero."""
    total = 0.0
    for name, array in weights.items():
        if np.issubdtype(array.dtype, np.floating):
            before = start.get(name)
            for blocks in in_blocks(array) if before is None else in_blocks(array, before):
                moved = blocks[0].astype(np.float64)
                if before is not None:
                    moved -= blocks[1]
                total += float(np.square(moved, out=moved).sum())
    return math.sqrt(total)


def _round(norm: float) -> float:
    return float(f"{norm:.{DIGITS}g}")
