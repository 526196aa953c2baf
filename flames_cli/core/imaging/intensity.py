"""Intensities: scaling from a scanner's units to [0, 1], and to the integers that files store."""

import math
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels

MAX_8_BIT = 255
"""Full scale of images from 8-bit files."""

MAX_12_BIT = 4095
"""Full scale of MRI and CT: scanners deliver 12 bits, and more would only take disk space."""

PercentileOf = Literal["all", "foreground"]
"""Voxels of which a percentile is taken: all, or those above 0."""

ValueCounts = tuple[NDArray[Any], NDArray[np.int64]]
"""Distinct values, ascending, and how often each occurs."""

_SLAB = 2**24
"""Number of voxels counted in one step: the largest that a float32 counts exactly."""


def count_values(voxels: Pixels) -> ValueCounts:
    """Return the distinct values of an array of any shape, ascending, and how often each occurs.

    The result is that of `numpy.unique`, which is many times slower for 8-bit and 16-bit integers.
    """
    if voxels.dtype.newbyteorder("=") not in (np.uint8, np.int16, np.uint16) or not voxels.size:
        values, counts = np.unique(voxels, return_counts=True)
        return values, counts.astype(np.int64)
    flat = voxels.ravel(order="K")
    if not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    lowest = min(int(flat.min()), 0)
    # Subtract the lowest value, so that it becomes 0; in two's complement, signed and unsigned bits agree.
    whole = (flat - np.int16(lowest)).view(np.uint16) if lowest < 0 else flat.view(f"u{flat.itemsize}")
    bins = int(whole.max()) + 1
    counts = np.zeros(bins, np.int64)
    for start in range(0, whole.size, _SLAB):
        slab = whole[start : start + _SLAB].reshape(1, -1)
        counts += cv2.calcHist([slab], [0], None, [bins], [0, bins]).ravel().astype(np.int64)
    present = np.flatnonzero(counts)
    return present + lowest, counts[present]


def percentile_range(
    volume: Pixels, percentile: float = 95.0, of: PercentileOf = "all"
) -> tuple[float, float]:
    """Return 0 and a percentile of the complete volume: the range to which FLAMES clips MRI.

    The percentile is that of `numpy.percentile`, with linear interpolation between two voxels. With
    `foreground`, it is the percentile of {v: v > 0}, the voxels v that are not background.

    Raises:
        ValueError: the percentile is not above 0, so that all intensities would become equal.
    """
    if volume.dtype.kind == "f":
        chosen = volume[volume > 0] if of == "foreground" else volume
        high = float(np.percentile(chosen, percentile)) if chosen.size else 0.0
    else:
        values, counts = count_values(volume)
        first = int(np.searchsorted(values, 0, side="right")) if of == "foreground" else 0
        values, counts = values[first:], counts[first:]
        high = _percentile_of_counts(values, counts, percentile) if counts.size else 0.0
    if high <= 0:
        raise ValueError(f"its {percentile:g}th intensity percentile is {high:g}, expected above 0")
    return 0.0, high


def _percentile_of_counts(values: NDArray[Any], counts: NDArray[np.int64], percentile: float) -> float:
    ends = np.cumsum(counts)
    position = (int(ends[-1]) - 1) * percentile / 100
    below = float(values[np.searchsorted(ends, int(position), side="right")])
    above = float(values[np.searchsorted(ends, min(int(position) + 1, int(ends[-1]) - 1), side="right")])
    return below + (above - below) * (position - int(position))


def round_outwards(low: float, high: float, symmetric: bool = False) -> tuple[float, float]:
    """Return a range around `low` and `high` whose ends have few digits, for a window that users type.

    The ends are multiples of 1, 2 or 5 times a power of ten, at most a quarter of the distance. With
    `symmetric`, the range is symmetric about 0 unless one end is three times as far from 0 as the other.
    """
    if symmetric and low < 0 < high and max(-low, high) < 3 * min(-low, high):
        high = max(-low, high)
        low = -high
    quarter = max(high - low, 1e-9) / 4
    power = 10.0 ** math.floor(math.log10(quarter))
    step = max(power * digit for digit in (1, 2, 5) if power * digit <= quarter * (1 + 1e-9))
    # A tenth of a step is forgiven, and the last digits of a sum of floats are dropped.
    ends = math.floor(low / step + 0.1) * step, math.ceil(high / step - 0.1) * step
    return round(ends[0], 9), round(ends[1], 9)


def sample_voxels(volume: Pixels, n: int = 1_000_000) -> Pixels:
    """Return about `n` voxels at regular distances along every axis, or all if there are no more."""
    step = math.ceil((max(volume.size, 1) / n) ** (1 / max(volume.ndim, 1)))
    return volume[tuple(slice(None, None, step) for _ in range(volume.ndim))].ravel()


def scale(image: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Clip `image` to [low, high] and map it to [0, 1], float32."""
    spread = np.clip(image, low, high).astype(np.float64, copy=False)
    spread -= low
    spread /= high - low
    return spread.astype(np.float32)


def quantise(image: Pixels, max_value: int) -> Pixels:
    """Clip a float image to [0, 1] and map it to integers 0..max_value (uint8 up to 255, else uint16)."""
    dtype = np.uint8 if max_value <= MAX_8_BIT else np.uint16
    spread: Pixels = np.clip(image, 0.0, 1.0)
    spread *= max_value
    return np.rint(spread, out=spread).astype(dtype)


def dequantise(image: Pixels, max_value: int) -> NDArray[np.float32]:
    """Map integers 0..max_value back to float32 in [0, 1], the inverse of `quantise`."""
    return image.astype(np.float32) / np.float32(max_value)
