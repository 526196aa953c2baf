"""Histograms inside a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT, HEAD, FOOT = 460, 150, 16, 18


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its edges and middle in units of the chart, and its two texts."""

    left: float
    top: float
    width: float
    height: float
    label: str
    count: int

    @property
    def middle(self) -> float:
        """Position of the texts."""
        return self.left + self.width / 2


@dataclass(frozen=True, slots=True)
class BarChart:
    """A histogram: one bar per label, with its count above."""

    title: str
    labels: Sequence[str]
    counts: Sequence[int]

    width, height, floor = WIDTH, HEIGHT, HEIGHT - FOOT

    @property
    def bars(self) -> list[Bar]:
        """Bars from left to right; the highest one fills the chart."""
        step, top = WIDTH / len(self.labels), max([*self.counts, 1])
        heights = [(self.floor - HEAD) * count / top for count in self.counts]
        return [
            Bar(step * index + 3, self.floor - height, step - 6, height, label, count)
            for index, (label, count, height) in enumerate(
                zip(self.labels, self.counts, heights, strict=True)
            )
        ]


def name_bins(edges: Sequence[float]) -> list[str]:
    """Return the names of bins of shares of 0..1 in %, such as `<0.1` and `0.1–0.2`."""
    ends = [f"{100 * edge:g}" for edge in edges]
    return [f"<{ends[1]}", *(f"{a}–{b}" for a, b in pairwise(ends[1:]))]
