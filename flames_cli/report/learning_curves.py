"""Learning curves of a run: loss and validation Dice over its rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.report.canvas import LINES, MARKERS, PALETTE, open_figure, save_figure, shorten
from flames_cli.report.inline_svg import Drawing, draw_inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[int, float]
"""Round and value."""

MOST_LINES = 8
"""Largest number of lines in a panel, with that of all clients; more clients are drawn as bands."""

GREY, BLACK = "#666666", "#000000"
FINAL, REJECTED = "D", "x"
"""Markers of the final models and of rejected reports."""

# Sizes in inches.
WIDTH, HEIGHT = 9.6, 3.4
PANEL, LEFT, GAP, FOOT, HEAD, LEGEND = 3.05, 0.6, 0.6, 0.42, 0.55, 0.15
NAME_LETTERS = 26
INLINE, INLINE_HEIGHT, INLINE_LEFT, INLINE_HEAD, LEGEND_LINE = 4.6, 2.7, 0.55, 0.25, 0.2

MOST_MARKS = 4
"""Largest number of entries of the legend besides clients."""


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """Curves of one run.

    The loss of a round is that of its training. The Dice at a round is that of the model which a client
    receives after it, at 0 of the initial model.
    """

    title: str
    loss: Mapping[str, Sequence[Point]]
    """Training loss by client."""
    dice: Mapping[str, Sequence[Point]]
    """Validation Dice by client; empty without validation patients."""
    bands: Mapping[str, str] = field(default_factory=dict)
    """Name of the band to which each client belongs if there are too many for lines: its modality."""
    pooled: Sequence[Point] = ()
    """Mean Dice over the validation images of all clients."""
    final: Mapping[str, Point] = field(default_factory=dict)
    """Dice of the final models by client."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """Rounds to mark by name, such as best."""
    rejected: Sequence[tuple[str, int]] = ()
    """Client and round of each report that was rejected or missing."""
    patients: int = 0
    """Number of validation patients of all clients."""


@dataclass(frozen=True, slots=True)
class Band:
    """Mean and range of several clients at rounds; arrays of one length."""

    rounds: NDArray[Any]
    mean: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]


def make_band(series: Sequence[Sequence[Point]]) -> Band:
    """Return mean, minimum and maximum of the clients' values at every round that has one.

    A client without a value in a round counts with its last one before, and from its first one on: else the
    mean would jump when other clients are asked.
    """
    values = [dict(points) for points in series]
    rounds = sorted({number for points in values for number in points})
    known: dict[int, float] = {}
    rows = []
    for number in rounds:
        known |= {index: points[number] for index, points in enumerate(values) if number in points}
        found = list(known.values())
        rows.append((sum(found) / len(found), min(found), max(found)))
    mean, low, high = np.array(rows).reshape(-1, 3).T
    return Band(np.array(rounds), mean, low, high)


def _find_lines(curves: LearningCurves) -> tuple[list[str], dict[str, list[str]] | None]:
    """Return the names of the clients, and the bands that are drawn in place of their lines if they are many.

    Raises:
        ValueError: there is no round to draw.
    """
    if not any(curves.loss.values()):
        raise ValueError("got no round to draw, expected at least one; federate at least one round")
    names = list(dict.fromkeys((*curves.loss, *curves.dice)))
    return names, None if len(names) < MOST_LINES else _find_bands(curves, names)


def draw_learning_curves(path_png: Path, curves: LearningCurves) -> None:
    """Draw a panel with the training loss and one with the validation Dice, with one legend.

    There is a line for each client and one for all clients, at most MOST_LINES; for more clients a band from
    the lowest to the highest client and its mean, by modality.

    Raises:
        ValueError: there is no round to draw.
    """
    names, bands = _find_lines(curves)
    with open_figure(WIDTH, HEIGHT) as figure:
        loss, dice = (_add_panel(figure, index) for index in range(2))
        handles = _draw_loss(loss, curves, names, bands) | _draw_dice(dice, curves, names, bands)
        figure.text(LEFT / WIDTH, 1 - 0.12 / HEIGHT, curves.title, va="top", fontsize=10, fontweight="bold")
        corner = ((LEFT + 2 * PANEL + GAP + LEGEND) / WIDTH, 1 - HEAD / HEIGHT)
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="upper left",
            bbox_to_anchor=corner,
            borderaxespad=0,
            fontsize=7.5,
        )
        save_figure(figure, path_png, "png")


def draw_curves_inline(curves: LearningCurves, name: str) -> list[Drawing]:
    """Return the drawings of the training loss and, with validation patients, of the validation Dice.

    `name` is a name of the drawings that no other drawing in the page begins with.

    Raises:
        ValueError: there is no round to draw.
    """
    names, bands = _find_lines(curves)
    made = [_draw_panel_inline(_draw_loss, "training loss", curves, names, bands, name)]
    if curves.dice:
        made.append(_draw_panel_inline(_draw_dice, "validation Dice", curves, names, bands, name))
    return made


def _draw_panel_inline(
    draw: Callable[..., dict[str, Any]],
    what: str,
    curves: LearningCurves,
    names: Sequence[str],
    bands: Mapping[str, Sequence[str]] | None,
    name: str,
) -> Drawing:
    """Return one panel with its legend below it."""
    lines = -(-(len(names if bands is None else bands) + MOST_MARKS) // 2)
    height = INLINE_HEIGHT + LEGEND_LINE * lines
    inner = INLINE_HEIGHT - FOOT - INLINE_HEAD
    place = (
        INLINE_LEFT / INLINE,
        1 - (INLINE_HEIGHT - FOOT) / height,
        1 - (INLINE_LEFT + 0.1) / INLINE,
        inner / height,
    )

    def paint(figure: "Figure") -> None:
        handles = draw(_place_panel(figure, place), curves, names, bands)
        figure.legend(
            handles=list(handles.values()),
            labels=list(handles),
            loc="upper left",
            bbox_to_anchor=(0, 1 - INLINE_HEIGHT / height),
            borderaxespad=0,
            ncols=2,
        )

    return draw_inline((INLINE, height), f"{name} {what}", f"{what} by round: {curves.title}", paint)


def _draw_loss(
    axes: "Axes",
    curves: LearningCurves,
    names: Sequence[str],
    bands: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """Draw the training loss of all clients; return the entries of the legend."""
    handles = _draw_series(axes, curves.loss, names, bands)
    axes.set(xlabel="round", ylabel="training loss of the clients")
    axes.set_ylim(bottom=0)
    last = _last_round(curves)
    axes.set_xlim(1 - 0.03 * last, 1.03 * last)
    return handles


def _draw_dice(
    axes: "Axes",
    curves: LearningCurves,
    names: Sequence[str],
    bands: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """Draw the validation Dice of the clients that have validation patients; return the entries of the
    legend."""
    handles = _draw_series(axes, curves.dice, names, bands)
    handles |= _draw_dice_marks(axes, curves, names)
    axes.set(xlabel="rounds done", ylim=(0, 1), ylabel="validation Dice of the models as received")
    last = _last_round(curves)
    axes.set_xlim(-0.03 * last, 1.03 * last)
    if not curves.dice:
        axes.text(0.5, 0.5, "no validation patients", ha="center", color=GREY, transform=axes.transAxes)
    elif curves.patients:
        plural = "" if curves.patients == 1 else "s"
        axes.set_title(f"{curves.patients} validation patient{plural}", loc="right", fontsize=8)
    return handles


def _last_round(curves: LearningCurves) -> int:
    return max(number for points in curves.loss.values() for number, _ in points)


def _add_panel(figure: "Figure", index: int) -> "Axes":
    left = LEFT + index * (PANEL + GAP)
    return _place_panel(figure, (left / WIDTH, FOOT / HEIGHT, PANEL / WIDTH, (HEIGHT - HEAD - FOOT) / HEIGHT))


def _place_panel(figure: "Figure", place: tuple[float, float, float, float]) -> "Axes":
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes(place)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _find_bands(curves: LearningCurves, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the clients of each band; one band if there are too many."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(curves.bands.get(name, ""), []).append(name)
    return found if len(found) < MOST_LINES else {"": list(names)}


def _draw_series(
    axes: "Axes",
    series: Mapping[str, Sequence[Point]],
    names: Sequence[str],
    bands: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """Draw lines, or bands if there are any; return the entries of the legend."""
    return _draw_lines(axes, series, names) if bands is None else _draw_bands(axes, series, bands)


def _draw_lines(axes: "Axes", series: Mapping[str, Sequence[Point]], names: Sequence[str]) -> dict[str, Any]:
    """Draw a line for each client; return the entries of the legend."""
    handles = {}
    for index, name in enumerate(names):
        points = series.get(name, ())
        (line,) = axes.plot(
            [number for number, _ in points],
            [value for _, value in points],
            color=PALETTE[index % len(PALETTE)],
            linestyle=LINES[index // len(PALETTE) % len(LINES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.5,
            markevery=max(1, len(points) // 10),
            linewidth=1.2,
        )
        handles[shorten(name, NAME_LETTERS)] = line
    return handles


def _draw_bands(
    axes: "Axes", series: Mapping[str, Sequence[Point]], bands: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Draw mean and range of the clients of each band; return the entries of the legend."""
    handles = {}
    for index, (title, clients) in enumerate(bands.items()):
        colour = PALETTE[index % len(PALETTE)]
        band = make_band([series[name] for name in clients if series.get(name)])
        axes.fill_between(band.rounds, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        (line,) = axes.plot(
            band.rounds, band.mean, color=colour, linestyle=LINES[index % len(LINES)], linewidth=1.6
        )
        handles[_band_title(title, len(clients))] = line
    return handles


def _band_title(title: str, n: int) -> str:
    what = f"{n} client{'' if n == 1 else 's'}"
    named = f"{shorten(title, NAME_LETTERS)}: {what}" if title else what
    return named if n == 1 else f"{named}, mean and range"


def _draw_dice_marks(axes: "Axes", curves: LearningCurves, names: Sequence[str]) -> dict[str, Any]:
    """Draw the mean over all images, final models, rejected reports and marked rounds; return the entries of
    the legend."""
    handles: dict[str, Any] = {}
    if len(curves.dice) > 1 and curves.pooled:
        rounds, values = zip(*curves.pooled, strict=True)
        (handles["all clients, mean over images"],) = axes.plot(
            rounds, values, color="#AAAAAA", linewidth=3.5, zorder=1.5
        )
    if curves.final:
        rounds, values = zip(*curves.final.values(), strict=True)
        handles["final models"] = axes.scatter(
            rounds, values, marker=FINAL, s=22, facecolor="white", edgecolor=BLACK, linewidth=0.8, zorder=4
        )
    if curves.rejected:
        # A rejected report has no Dice: its mark is at the foot.
        few = len(names) < MOST_LINES
        colours = [PALETTE[names.index(name) % len(PALETTE)] if few else BLACK for name, _ in curves.rejected]
        places = [number - 1 for _, number in curves.rejected]
        handles[f"rejected or missing report ({len(places)})"] = axes.scatter(
            places, [0.015] * len(places), marker=REJECTED, s=22, color=colours, linewidth=1.2, zorder=4
        )
    by_round: dict[int, list[str]] = {}
    for name, number in curves.marks.items():
        by_round.setdefault(number, []).append(name)
    for index, (number, marked) in enumerate(by_round.items()):
        line = axes.axvline(number, color=GREY, linestyle=LINES[1 + index % 3], linewidth=1.0, zorder=1)
        handles[f"{', '.join(marked)}: round {number}"] = line
    return handles
