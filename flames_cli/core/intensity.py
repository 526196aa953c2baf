"""Intensities: from a scanner's units to [0, 1], and to the integers that files keep."""

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels

MAX_8_BIT = 255
"""Full scale of images from 8-bit files."""

MAX_12_BIT = 4095
"""Full scale of MRI and CT: their scanners deliver 12 bits; more only costs disk."""


def percentile_range(volume: Pixels, percentile: float = 95.0) -> tuple[float, float]:
    """(0, the percentile of the whole volume): the clip of FLAMES for MRI.

    Raises:
        ValueError: the percentile is not above 0, so nothing could be told apart.
    """
    high = float(np.percentile(volume, percentile))
    if high <= 0:
        raise ValueError(f"its {percentile:g}th intensity percentile is {high:g}, expected above 0")
    return 0.0, high


def scale(image: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """`image` clipped to [low, high] and mapped to [0, 1], float32."""
    spread = (np.clip(image, low, high).astype(np.float64) - low) / (high - low)
    return spread.astype(np.float32)


def quantise(image: Pixels, max_value: int) -> Pixels:
    """Float image in [0, 1] (clipped to it) as integers 0..max_value: uint8 up to 255, else uint16."""
    dtype = np.uint8 if max_value <= MAX_8_BIT else np.uint16
    whole: Pixels = np.rint(np.clip(image, 0.0, 1.0) * max_value).astype(dtype)
    return whole


def dequantise(image: Pixels, max_value: int) -> NDArray[np.float32]:
    """The inverse of `quantise`: float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(max_value)
