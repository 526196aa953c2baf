"""Black frames around pictures, such as those of endoscopes: replaced before pictures are compared."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK, BRIGHT = 16, 96
"""Grey levels up to which an edge of the picture is frame, and from which it is content.

Between the two it is partly frame. With one limit, dark ultrasound would be divided differently after each
change of brightness: 14 of 132 images saved 5 % brighter were no copies then, and none is with two.
"""
LEAST_CONTENT = 0.05
"""Share of the picture that must be content; else the picture is nearly black and is left as it is."""
REACH = 1 / 8
"""Distance, as a share of the side, at which the weight of content has fallen to 1/e in the mean that
replaces the frame."""

AIR = 40
"""Grey level up to which pixels at the edge of a slice are air around the patient."""
NOISE = 0.01
"""Share of brighter pixels in a row or column of air."""

_LEVELS = np.clip((np.arange(256) - BLACK) / (BRIGHT - BLACK) * 255, 0, 255).astype(np.uint8)


def replace_frame(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a square grey picture S×S whose black frame is replaced by weighted means of the content.

    The frame is all that is dark from an edge to the first content, seen from each of the four sides: bands,
    cut corners, and the outside of a circle. Dark areas inside the content stay.
    """
    content = _inside(np.asarray(cv2.LUT(picture, _LEVELS), np.uint8)).astype(np.float32) / np.float32(255)
    if content.mean() < LEAST_CONTENT:
        return picture
    weights = _weights(len(picture))
    seen = content * picture
    nearby = (weights @ seen @ weights) / (weights @ content @ weights)
    return np.rint(seen + (1 - content) * nearby).astype(np.uint8)


def crop_to_content(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey picture H×W without the rows and columns of air at its edges; unchanged if all is air.

    The limit suits slices of CT and MRI, where the skin is a sharp edge; ultrasound has none.
    """
    bright = picture > AIR
    rows = np.flatnonzero(bright.mean(axis=1) > NOISE)
    columns = np.flatnonzero(bright.mean(axis=0) > NOISE)
    if not len(rows) or not len(columns):
        return picture
    return np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _inside(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return for each pixel the least of the largest levels to its left, right, above and below, with its
    own."""
    side = len(levels)
    row, column = np.ones((1, side), np.uint8), np.ones((side, 1), np.uint8)
    largest = [cv2.dilate(levels, row, anchor=(end, 0)) for end in (0, side - 1)]
    largest += [cv2.dilate(levels, column, anchor=(0, end)) for end in (0, side - 1)]
    return np.asarray(cv2.min(cv2.min(largest[0], largest[1]), cv2.min(largest[2], largest[3])), np.uint8)


@cache
def _weights(side: int) -> NDArray[np.float32]:
    distance = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    return np.exp(-distance / (REACH * side)).astype(np.float32)
