"""Heat map of a matrix of scores between 0 and 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flames_cli.report.canvas import open_figure, save_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Sizes in inches.
CELL, HEAD, RIGHT, LEAST = 0.46, 0.75, 1.15, 4
LETTER, LEFT, FOOT = 0.075, 0.5, 0.5
NAME_LETTERS = 22
COLOURS = "cividis"
"""Colour map that colour-blind readers can also distinguish, and whose lightness rises evenly."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Matrix of scores, one row and one column per name."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    """Scores in [0, 1] by row and column; None: not known."""
    row_groups: Sequence[str]
    """Group of each row; rows of a group follow each other."""
    column_groups: Sequence[str]
    marked: Sequence[tuple[int, int]] = ()
    """Row and column of each cell with a frame."""
    row_title: str = ""
    column_title: str = ""
    value_title: str = ""
    """Name of the scores, at the scale of colours."""


def draw_heat_map(path_png: Path, content: HeatMap) -> None:
    """Draw the matrix with its values in the cells, frames around marked cells, and lines between groups.

    Raises:
        ValueError: the matrix is empty, or has another shape than its names.
    """
    n_rows, n_columns = len(content.rows), len(content.columns)
    shape = len(content.values), *{len(row) for row in content.values}
    if not (n_rows and n_columns) or shape != (n_rows, n_columns):
        raise ValueError(
            f"got names of {n_rows} rows and {n_columns} columns, expected as many values, and one at least"
        )
    inner = CELL * max(LEAST, n_columns), CELL * max(LEAST, n_rows)
    rows, columns = (
        [shorten(name, NAME_LETTERS) for name in names] for names in (content.rows, content.columns)
    )
    left, foot = LEFT + LETTER * max(map(len, rows)), FOOT + LETTER * max(map(len, columns))
    width, height = left + inner[0] + RIGHT, HEAD + inner[1] + foot
    values = np.array([[np.nan if one is None else one for one in row] for row in content.values], float)
    with open_figure(width, height) as figure:
        axes = figure.add_axes((left / width, foot / height, inner[0] / width, inner[1] / height))
        axes.set_facecolor("#DDDDDD")
        picture = axes.imshow(values, cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
        _write_values(axes, values)
        _draw_frames(axes, content)
        axes.set_xticks(range(n_columns), columns, rotation=90)
        axes.set_yticks(range(n_rows), rows)
        axes.set(xlabel=content.column_title, ylabel=content.row_title)
        bold: dict[str, Any] = {"fontsize": 8, "fontweight": "bold"}
        for place, group in _middles(content.column_groups):
            axes.text(place, -0.62, group, ha="center", va="bottom", **bold)
        for place, group in _middles(content.row_groups):
            axes.text(n_columns - 0.38, place, group, va="center", rotation=270, **bold)
        bar = figure.add_axes((1 - 0.7 / width, foot / height, 0.12 / width, inner[1] / height))
        figure.colorbar(picture, cax=bar, label=content.value_title)
        figure.text(0.1 / width, 1 - 0.1 / height, content.title, va="top", fontsize=9, fontweight="bold")
        save_figure(figure, path_png, "png")


def _write_values(axes: "Axes", values: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> None:
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        shade = "black" if value > 0.5 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=shade)


def _draw_frames(axes: "Axes", content: HeatMap) -> None:
    from matplotlib.patches import Rectangle

    for row, column in content.marked:
        # A frame of two colours is seen on dark and on light cells.
        for colour, line in (("white", 2.4), ("#D55E00", 1.4)):
            frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=colour)
            frame.set_linewidth(line)
            axes.add_patch(frame)
    for place in _borders(content.row_groups):
        axes.axhline(place, color="white", linewidth=2.5)
    for place in _borders(content.column_groups):
        axes.axvline(place, color="white", linewidth=2.5)


def _borders(groups: Sequence[str]) -> Iterator[float]:
    """Yield the places between two groups."""
    for index in range(1, len(groups)):
        if groups[index] != groups[index - 1]:
            yield index - 0.5


def _middles(groups: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Yield the middle and the name of each group."""
    edges = [-0.5, *_borders(groups), len(groups) - 0.5]
    for low, high in pairwise(edges):
        yield (low + high) / 2, groups[int(low + 0.5)]
