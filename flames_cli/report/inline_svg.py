"""Figures as SVG inside a page: their texts and lines have the page's colours, light and dark."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flames_cli.report.canvas import PALETTE, open_figure
from flames_cli.report.legible import legible

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

VARIABLES = {
    "#000000": "text",
    "#ffffff": "page",
    "#666666": "faint",
    "#444444": "faint",
    "#dddddd": "line",
    PALETTE[0].lower(): "blue",
}
"""Variable of the page's style in place of each colour that is hard to see on light or on dark ground."""

PIXELS_PER_INCH = 96


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure for a page."""

    svg: "Markup"
    """The SVG element; it needs no other file, and its ids are its own."""


def draw_inline(
    size: tuple[float, float], name: str, label: str, paint: Callable[["Figure"], None]
) -> Drawing:
    """Return a figure as SVG.

    Args:
        size: width and height in inches.
        name: name of the drawing in its page, by which the ids in it differ from those of others.
        label: text for readers who do not see it.
        paint: function that draws on the figure.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with open_figure(*size) as figure, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        paint(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Drawing(_inline(buffer.getvalue(), round(size[0] * PIXELS_PER_INCH), label))


def _inline(text: str, width: int, label: str) -> "Markup":
    """Return the SVG element of a file of matplotlib, without what only a file needs."""
    from markupsafe import Markup, escape

    body = text[text.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', body)
    shown = escape(legible(label))
    start = f'<svg {view.group() if view else ""} width="{width}" role="img" aria-label="{shown}">'
    body = re.sub(r"<svg[^>]*>", lambda _: start, body, count=1)
    # The style of the file would be that of the complete page.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace("'DejaVu Sans'", "system-ui, sans-serif")
    for colour, variable in VARIABLES.items():
        body = re.sub(rf"(?<=: ){colour}\b", f"var(--{variable})", body, flags=re.IGNORECASE)
    return Markup(_without_unused_ids(body).strip())


def _without_unused_ids(body: str) -> str:
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    return re.sub(r' id="([^"]*)"', lambda found: found.group() if found[1] in used else "", body)
