"""Histograms inside a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, HEAD, FOOT, SIDE = 344, 140, 16, 18, 12
"""Sizes in pixels; the width is that of a phone."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its edges in units of the chart, and the count above it."""

    left: float
    top: float
    width: float
    height: float
    count: int

    @property
    def middle(self) -> float:
        """Position of the count."""
        return self.left + self.width / 2


@dataclass(frozen=True, slots=True)
class BarChart:
    """A histogram: one bar per count, with the edges of the bins below."""

    title: str
    edges: Sequence[str]
    """Names of the edges, one more than counts."""
    counts: Sequence[int]

    width, height, floor = WIDTH, HEIGHT, HEIGHT - FOOT

    @property
    def bars(self) -> list[Bar]:
        """Bars from left to right; the highest one fills the chart."""
        top = max([*self.counts, 1])
        heights = [(self.floor - HEAD) * count / top for count in self.counts]
        return [
            Bar(SIDE + self._step * index + 2, self.floor - height, self._step - 4, height, count)
            for index, (count, height) in enumerate(zip(self.counts, heights, strict=True))
        ]

    @property
    def ticks(self) -> Iterator[tuple[float, str]]:
        """Position and name of each edge."""
        yield from ((SIDE + self._step * index, name) for index, name in enumerate(self.edges))

    @property
    def _step(self) -> float:
        return (WIDTH - 2 * SIDE) / max(1, len(self.counts))


def name_edges(edges: Sequence[float]) -> list[str]:
    """Return the names of the edges of bins of shares of 0..1, in %."""
    return [f"{100 * edge:g}" for edge in edges]
