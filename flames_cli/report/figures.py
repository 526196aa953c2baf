"""Figures as files: the map of the cases, and masks over images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.report.canvas import MARKERS, PALETTE, open_figure, save_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, PREDICTION = "#56B4E9", "#E69F00"

# Sizes in inches.
TILE, TILE_GAP, CASE_GAP = 1.15, 0.03, 0.16
MARGIN, HEAD, TITLE, CAPTION, ROW_GAP = 0.12, 0.3, 0.27, 0.17, 0.1
CAPTION_LETTERS = 62
MAP, MAP_GAP, MAP_HEAD, MAP_FOOT, LEGEND_LINE = 4.1, 0.45, 0.62, 0.42, 0.19
LEGEND_COLUMNS = 2


@dataclass(frozen=True)
class OverlayPanel:
    """One case: `image` (H×W or H×W×3) in [0, 1], `truth` and `prediction` (H×W) of 0 and 1, and its line of
    text."""

    image: NDArray[Any]
    truth: NDArray[Any]
    prediction: NDArray[Any]
    caption: str


@dataclass(frozen=True)
class OverlayRow:
    """Cases of one client or server model, such as its best, median and worst."""

    title: str
    panels: Sequence[OverlayPanel]


def draw_embedding(
    path_png: Path,
    path_svg: Path,
    xy: NDArray[Any],
    modalities: Sequence[str],
    clients: Sequence[str],
    title: str,
) -> None:
    """Draw two maps of the same N×2 positions: coloured by modality on the left, by client on the right.

    Raises:
        ValueError: there is not one modality and one client per case.
    """
    if xy.shape != (len(modalities), 2) or len(clients) != len(modalities):
        raise ValueError(
            f"got positions of shape {xy.shape}, {len(modalities)} modalities and {len(clients)} clients, "
            "expected N×2 with one modality and one client per case"
        )
    groups = max(len(set(modalities)), len(set(clients)))
    foot = MAP_FOOT + LEGEND_LINE * -(-groups // LEGEND_COLUMNS)
    width, height = 3 * MAP_GAP + 2 * MAP, MAP_HEAD + MAP + foot
    with open_figure(width, height) as figure:
        figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=11, fontweight="bold")
        for column, (labels, name) in enumerate(((modalities, "by modality"), (clients, "by client"))):
            left = MAP_GAP + column * (MAP + MAP_GAP)
            axes = figure.add_axes((left / width, foot / height, MAP / width, MAP / height))
            _draw_map(axes, xy, labels, name)
        save_figure(figure, path_png, "png")
        save_figure(figure, path_svg, "svg")


def draw_overlays(path_png: Path, rows: Sequence[OverlayRow], title: str = "") -> None:
    """Draw a row per model, with three tiles per case: the image, with its true mask, with the predicted
    mask.

    The tile with the prediction also shows the true outline. `title` is at the upper right.

    Raises:
        ValueError: there is no case to draw.
    """
    columns = max((len(row.panels) for row in rows), default=0)
    if columns == 0:
        raise ValueError("got no case to draw, expected rows with panels; evaluate at least one case")
    case_width = 3 * TILE + 2 * TILE_GAP
    row_height = TITLE + CAPTION + TILE + ROW_GAP
    width = 2 * MARGIN + columns * case_width + (columns - 1) * CASE_GAP
    height = HEAD + len(rows) * row_height
    with open_figure(width, height) as figure:
        draw_key(figure, width, height)
        figure.text(1 - MARGIN / width, 1 - 0.1 / height, title, ha="right", va="top")
        for index, row in enumerate(rows):
            top = height - HEAD - index * row_height
            baseline = (top - TITLE + 0.06) / height
            figure.text(MARGIN / width, baseline, row.title, fontsize=9, fontweight="bold")
            for column, panel in enumerate(row.panels):
                left = MARGIN + column * (case_width + CASE_GAP)
                _draw_case(figure, panel, left, top - TITLE)
        save_figure(figure, path_png, "png")


def _draw_map(axes: "Axes", xy: NDArray[Any], labels: Sequence[str], title: str) -> None:
    names = np.asarray(labels)
    sizes = Counter(labels)
    drawn_first = [name for name, _ in sizes.most_common()]
    for index, name in enumerate(sizes):
        own = xy[names == name]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=14 if len(xy) < 2000 else 6,
            color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index // len(PALETTE) % len(MARKERS)],
            alpha=0.75,
            linewidths=0,
            # Small groups are drawn last, so that large groups do not hide them.
            zorder=2 + drawn_first.index(name) / len(sizes),
            label=f"{name} (n={sizes[name]})",
        )
    axes.set(title=title, xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.06),
        ncols=LEGEND_COLUMNS,
        markerscale=1.8,
        handletextpad=0.2,
        borderaxespad=0,
    )


def draw_key(figure: "Figure", width: float, height: float) -> None:
    """Draw the meaning of the colours at the upper left of a figure of this size in inches."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=f"{TRUTH}66", edgecolor=TRUTH, label="ground truth"),
        Patch(facecolor=f"{PREDICTION}66", edgecolor=PREDICTION, label="prediction"),
        Line2D([], [], color=TRUTH, linewidth=0.9, label="outline of the ground truth, for comparison"),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(MARGIN / width, 1 - 0.1 / height),
        ncols=3,
        borderpad=0,
        borderaxespad=0,
    )


def _draw_case(figure: "Figure", panel: OverlayPanel, left: float, top: float) -> None:
    """Draw one case's caption and three tiles, from its upper left corner in inches."""
    width, height = figure.get_size_inches()
    caption = shorten(panel.caption, CAPTION_LETTERS)
    figure.text(left / width, (top - 0.02) / height, caption, va="top", fontsize=7.5, color="#333333")
    for tile in range(3):
        x, y = left + tile * (TILE + TILE_GAP), top - CAPTION - TILE
        axes = figure.add_axes((x / width, y / height, TILE / width, TILE / height), facecolor="black")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.imshow(panel.image, cmap="gray", vmin=0, vmax=1)
        if tile == 1:
            fill_mask(axes, panel.truth, TRUTH)
        if tile == 2:
            fill_mask(axes, panel.prediction, PREDICTION)
            outline_mask(axes, panel.truth, TRUTH, 0.7)


def fill_mask(axes: "Axes", mask: NDArray[Any], colour: str) -> None:
    """Tint the pixels of a mask, H×W, and draw its outline."""
    from matplotlib.colors import to_rgba

    tint = np.zeros((*mask.shape, 4))
    tint[mask > 0] = to_rgba(colour, 0.35)
    axes.imshow(tint, interpolation="nearest")
    outline_mask(axes, mask, colour, 1.0)


def outline_mask(axes: "Axes", mask: NDArray[Any], colour: str, linewidth: float) -> None:
    """Draw the outline of a mask, H×W; `linewidth` is in points."""
    # A mask without an edge has no contour, and matplotlib would warn.
    if mask.any() and not mask.all():
        axes.contour(mask > 0, levels=[0.5], colors=[colour], linewidths=linewidth)
