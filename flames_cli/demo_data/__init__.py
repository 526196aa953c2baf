"""Small synthetic data sets in the raw layouts of the FLAMES paper's three data sets, for `flames demo`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from flames_cli.demo_data.layouts import draw_brats, draw_busi, draw_otu2d
from flames_cli.demo_data.new_images import draw_new_images

__all__ = ["DEMO_DATA", "draw_new_images"]

DEMO_DATA: dict[str, Callable[[Path, int, int], Path]] = {
    "brats": partial(draw_brats, slices=16),
    "busi": draw_busi,
    "otu2d": draw_otu2d,
}
"""Function draw(root, patients, seed) of each data set; it creates the download's folder and returns it."""
