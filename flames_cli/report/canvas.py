"""Canvas of every figure: its style and colours, and the file that it is saved to.

Figures are drawn on an Agg canvas, not with pyplot, whose figures are global. The same input gives the same
bytes with one version of matplotlib. The colours are those of Okabe and Ito, which colour-blind readers can
also distinguish.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flames_cli.store.files.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito 2008, without the yellow, which is hard to see on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
DPI = 200

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#666666",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "svg.hashsalt": "flames",
    "text.parse_math": False,  # a name with two $ is a name
}


def shorten(text: str, letters: int) -> str:
    """Cut the middle of `text`: a caption begins with its case and ends with its score."""
    half = (letters - 1) // 2
    return text if len(text) <= letters else f"{text[:half]}…{text[-half:]}"


@contextmanager
def open_figure(width: float, height: float, layout: Any = None) -> Iterator["Figure"]:
    """Give a figure of that size in inches; the style applies only inside the block, so draw and save it
    there."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Reset first: a user's own matplotlibrc would change the bytes.
    with style.context(STYLE, after_reset=True):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def save_figure(figure: "Figure", path: Path, file_format: str) -> None:
    """Save a figure, atomically, as png or svg, without dates and version numbers.

    Raises:
        NotWritten: the folder cannot be written, or the disk is full.
    """
    metadata = {"Date": None, "Creator": None} if file_format == "svg" else {"Software": None}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=file_format, metadata=metadata)
