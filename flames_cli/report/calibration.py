"""Picture of the calibration of models: share of tumour against mean probability, one line per model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.report.canvas import LINES, MARKERS, PALETTE, open_figure, save_figure

SIDE, FOOT, LEGEND_LINE, HEAD, LEGEND_GAP = 3.6, 0.75, 0.17, 0.45, 0.48
"""Sizes in inches."""
FEWEST = 50
"""Smallest number of pixels of a bin that is drawn; the share of fewer is mostly chance."""


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """Bins of one model, from low to high probability."""

    name: str
    ece: float
    """Expected calibration error over the relevant pixels; NaN if there are none."""
    probabilities: Sequence[float]
    """Mean probability of the pixels of each bin, in [0, 1]."""
    shares: Sequence[float]
    """Share of these pixels that is tumour, in [0, 1]."""
    counts: Sequence[int]


def draw_reliability(path_png: Path, curves: Sequence[ReliabilityCurve], title: str) -> None:
    """Draw all curves over the diagonal, on which probabilities are right; bins with fewer than FEWEST pixels
    are left out.

    Raises:
        ValueError: there is no curve.
    """
    if not curves:
        raise ValueError("got no curve to draw, expected one per model; evaluate at least one case")
    foot = FOOT + LEGEND_LINE * len(curves)
    width, height = SIDE + 1.0, SIDE + HEAD + foot
    with open_figure(width, height) as figure:
        figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=9, fontweight="bold")
        axes = figure.add_axes((0.6 / width, foot / height, SIDE / width, SIDE / height))
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--", label="perfect calibration")
        for index, curve in enumerate(curves):
            bins = zip(curve.probabilities, curve.shares, curve.counts, strict=True)
            drawn = [(p, share) for p, share, count in bins if count >= FEWEST]
            colour, turn = PALETTE[index % len(PALETTE)], index // len(PALETTE)
            axes.plot(
                [p for p, _ in drawn],
                [share for _, share in drawn],
                color=colour,
                marker=MARKERS[turn % len(MARKERS)],
                linestyle=LINES[turn % len(LINES)],
                markersize=3,
                linewidth=1,
                label=f"{curve.name} (ECE {curve.ece:.2f})",
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share of tumour")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -LEGEND_GAP / SIDE), borderaxespad=0)
        save_figure(figure, path_png, "png")
