"""Pictures of several runs: the same cases side by side, and paired differences with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from flames_cli.report.canvas import MARKERS, PALETTE, open_figure, save_figure, shorten
from flames_cli.report.figures import PREDICTION, TRUTH, draw_key, fill_mask, outline_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes in inches.
TILE, GAP, MARGIN = 1.4, 0.04, 0.12
KEY, HEAD, HEAD_GAP, CAPTION, NOTE, ROW_GAP = 0.3, 0.3, 0.12, 0.2, 0.2, 0.08
LETTERS_OF_TILE, LETTERS_OF_INCH = 24, 15
LINE, GROUP_GAP = 0.17, 0.12


@dataclass(frozen=True)
class SideRow:
    """One case as all runs predict it: `image` (H×W or H×W×3) in [0, 1], `truth` and `predictions` (H×W) of 0
    and 1."""

    caption: str
    image: NDArray[Any]
    truth: NDArray[Any]
    predictions: Sequence[NDArray[Any] | None]
    """The mask of each run; None if a run has no model for the case."""
    scores: Sequence[str]
    """Line of text below the name of each run, such as its Dice."""


def draw_side_by_side(path_png: Path, rows: Sequence[SideRow], runs: Sequence[str]) -> None:
    """Draw a row per case: the image, the true mask, and the prediction of each run with the true outline.

    Raises:
        ValueError: there is no case, or not one prediction per run.
    """
    if not rows or any(len(row.predictions) != len(runs) or len(row.scores) != len(runs) for row in rows):
        raise ValueError(
            f"got {len(rows)} cases and {len(runs)} runs, expected cases with one prediction and one score "
            "per run"
        )
    n = len(runs) + 2
    width = max(7.0, 2 * MARGIN + n * TILE + (n - 1) * GAP)
    row_height = CAPTION + TILE + NOTE + ROW_GAP
    height = KEY + HEAD + len(rows) * row_height
    with open_figure(width, height) as figure:
        draw_key(figure, width, height)
        for column, name in enumerate(("image", "ground truth", *runs)):
            x = MARGIN + column * (TILE + GAP) + TILE / 2
            title = shorten(name, LETTERS_OF_TILE)
            y = 1 - (KEY + HEAD - HEAD_GAP) / height
            figure.text(x / width, y, title, ha="center", fontsize=7.5, fontweight="bold")
        for index, row in enumerate(rows):
            _draw_row(figure, row, height - KEY - HEAD - index * row_height)
        save_figure(figure, path_png, "png")


def _draw_row(figure: "Figure", row: SideRow, top: float) -> None:
    """Draw one case, from its upper edge in inches."""
    width, height = figure.get_size_inches()
    caption = shorten(row.caption, int(LETTERS_OF_INCH * (width - 2 * MARGIN)))
    figure.text(MARGIN / width, (top - 0.04) / height, caption, va="top", fontsize=7.5, color="#333333")
    bottom = top - CAPTION - TILE
    for tile in range(len(row.predictions) + 2):
        x = MARGIN + tile * (TILE + GAP)
        axes = figure.add_axes((x / width, bottom / height, TILE / width, TILE / height), facecolor="black")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if tile < 2:
            _show(axes, row, None)
            if tile == 1:
                fill_mask(axes, row.truth, TRUTH)
            continue
        prediction = row.predictions[tile - 2]
        if prediction is None:
            axes.set_facecolor("white")
        else:
            _show(axes, row, prediction)
        centre = (x + TILE / 2) / width
        text = row.scores[tile - 2]
        figure.text(centre, (bottom - 0.03) / height, text, ha="center", va="top", fontsize=7)


def _show(axes: "Axes", row: SideRow, prediction: NDArray[Any] | None) -> None:
    axes.imshow(row.image, cmap="gray", vmin=0, vmax=1)
    if prediction is not None:
        fill_mask(axes, prediction, PREDICTION)
        outline_mask(axes, row.truth, TRUTH, 0.7)


@dataclass(frozen=True)
class DifferenceGroup:
    """Paired differences of several runs on the same patients."""

    label: str
    points: Sequence[tuple[float, float, float] | None]
    """Mean and both limits of each run, NaN limits if they are not known; None if a run has no difference."""


def draw_differences(
    path_png: Path, groups: Sequence[DifferenceGroup], runs: Sequence[str], title: str, unit: str
) -> None:
    """Draw each difference as a point with its interval, a colour per run, around a line at zero.

    Raises:
        ValueError: there is no difference, or not one point per run.
    """
    if not groups or any(len(group.points) != len(runs) for group in groups):
        raise ValueError(
            f"got {len(groups)} groups and {len(runs)} runs, expected one point per group and run"
        )
    step = LINE * len(runs) + GROUP_GAP
    height = 1.1 + step * len(groups) + 0.18 * math.ceil(len(runs) / 2)
    with open_figure(7.0, height, layout="constrained") as figure:
        axes = figure.subplots()
        for index, run in enumerate(runs):
            _draw_points(axes, groups, index, run, step)
        axes.axvline(0, color="#666666", linewidth=0.8, zorder=1)
        centres = [-number * step - LINE * (len(runs) - 1) / 2 for number in range(len(groups))]
        labels = [shorten(group.label, 40) for group in groups]
        axes.set_yticks(centres, labels=labels)
        axes.set_ylim(-len(groups) * step + GROUP_GAP, LINE)
        axes.set_xlabel(unit)
        axes.set_title(title, loc="left", fontsize=8)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save_figure(figure, path_png, "png")


def _draw_points(axes: "Axes", groups: Sequence[DifferenceGroup], index: int, run: str, step: float) -> None:
    known = [(number, point) for number, group in enumerate(groups) if (point := group.points[index])]
    places = [-number * step - index * LINE for number, _ in known]
    colour = PALETTE[index % len(PALETTE)]
    for place, (_, (_, low, high)) in zip(places, known, strict=True):
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
    marker = MARKERS[index % len(MARKERS)]
    axes.plot(
        [mean for _, (mean, _, _) in known],
        places,
        color=colour,
        marker=marker,
        markersize=4,
        linestyle="none",
        label=shorten(run, 40),
    )
