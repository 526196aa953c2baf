"""Masks drawn over images, as arrays. H W pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask, Pixels

Colour = tuple[int, int, int]

PREDICTION: Colour = (230, 159, 0)
TRUTH: Colour = (86, 180, 233)
"""Colours of Okabe and Ito, which colour-blind readers can distinguish."""
TINT = 0.3
"""Share of the colour inside a mask."""
SMALLEST = 512
"""Side in pixels to which the longer side of a small image is enlarged, so that outlines are thin lines."""
TILE = 256
"""Side of a tile of a montage, in pixels."""


@dataclass(frozen=True, slots=True)
class Layers:
    """One image with its masks."""

    image: Pixels
    """H×W or H×W×3, 8 bits."""
    mask: Mask
    """Predicted mask, H×W of 0 and 1."""
    truth: Mask | None = None
    """True mask, of which the outline is drawn."""
    pixel: tuple[float, float] = (1.0, 1.0)
    """Height and width of a pixel, in any unit; NaN: unknown, so square."""
    caption: str = ""


def draw_overlay(layers: Layers, side: int | None = None) -> NDArray[np.uint8]:
    """Return the image in colour: the predicted mask tinted and outlined, and the outline of the true one.

    Args:
        layers: the image and its masks.
        side: longer side of the result, in pixels; None: that of the image, enlarged to SMALLEST at least.
    """
    height, width = _size_of(layers, side)
    image = _fit(layers.image, height, width)
    colour: Pixels = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    mask = cv2.resize(layers.mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    inside = mask > 0
    colour[inside] = np.rint(colour[inside] * (1 - TINT) + np.array(PREDICTION) * TINT).astype(np.uint8)
    line = max(1, round(max(height, width) / 600))
    if layers.truth is not None:
        truth = cv2.resize(layers.truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        _outline(colour, truth, TRUTH, line)
    _outline(colour, mask, PREDICTION, line)
    if layers.caption:
        for tint, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                colour, layers.caption, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, tint, thickness, cv2.LINE_AA
            )
    return np.asarray(colour, np.uint8)


def draw_montage(tiles: Sequence[Layers]) -> NDArray[np.uint8]:
    """Return the overlays of several images next to each other, row by row."""
    drawn = [draw_overlay(one, TILE) for one in tiles]
    columns = math.ceil(math.sqrt(len(drawn)))
    rows = math.ceil(len(drawn) / columns)
    height, width = (max(one.shape[axis] for one in drawn) for axis in (0, 1))
    page = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, one in enumerate(drawn):
        top, left = number // columns * height, number % columns * width
        page[top : top + one.shape[0], left : left + one.shape[1]] = one
    return page


def _size_of(layers: Layers, side: int | None) -> tuple[int, int]:
    """Return rows and columns of the result, in which pixels are square."""
    rows, columns = (length if length > 0 else math.nan for length in layers.pixel)
    stretch = rows / columns if math.isfinite(rows + columns) else 1.0
    height, width = (float(n) for n in layers.image.shape[:2])
    height, width = (height * stretch, width) if stretch >= 1 else (height, width / stretch)
    longer = side or max(SMALLEST, max(height, width))
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _fit(image: Pixels, height: int, width: int) -> Pixels:
    is_smaller = height < image.shape[0] or width < image.shape[1]
    how = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)


def _outline(colour: Pixels, mask: Pixels, tint: Colour, line: int) -> None:
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(colour, found, -1, tint, line, cv2.LINE_AA)
