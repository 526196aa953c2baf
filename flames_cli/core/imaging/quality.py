"""Quality of images and masks in numbers, and what stands out among them. H W pixels, N cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Mask, Pixels
from flames_cli.core.imaging.intensity import count_values
from flames_cli.core.imaging.near_duplicates import group_duplicates

PERCENTILES = (1, 50, 99)

SD_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation from the median, of a normal distribution."""

SD_OF_MEAN_DEVIATION = 1.2533
"""The same over the mean absolute deviation."""

SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Edges of the bins that lesions are counted in, by their share of the image."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """The pixels of one image, clipped to its window, in the image's own units."""

    mean: float
    sd: float
    p1: float
    p50: float
    p99: float


class Link(NamedTuple):
    """Two of N hashes, first before second, and in how many bits they differ."""

    first: int
    second: int
    bits: int


def measure_intensity(image: Pixels, low: float, high: float) -> Intensity:
    """Mean, sd (of all pixels, not a sample's) and percentiles of `image` (H×W or H×W×3) within low..high.

    A percentile is the smallest value that so many of 100 pixels do not exceed.
    """
    found, counts = count_values(image)
    values = np.clip(found.astype(np.float64), low, high)
    if values[0] == values[-1]:  # exactly: a sum of shares would leave a trace of spread
        return Intensity(values[0].item(), 0.0, *(values[0].item() for _ in PERCENTILES))
    share = counts / counts.sum()
    mean = float(values @ share)
    sd = float(np.sqrt(np.square(values - mean) @ share))
    # Less a little, where a product that should be whole comes out just above it.
    places = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * counts.sum() - 1e-6)
    return Intensity(mean, sd, *(float(values[place]) for place in places))


def count_shares(shares: Sequence[float]) -> list[int]:
    """How many of `shares`, in 0..1, lie in each bin of SHARES; an edge belongs to the bin above it."""
    return [int(count) for count in np.histogram(shares, SHARES)[0]]


def spread_sample(values: Sequence[float], n: int) -> list[int]:
    """Indices of at most `n` values, evenly spaced in their order: the smallest, …, the largest."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(order) - 1, min(n, len(order)))
    return [int(order[place]) for place in np.rint(places).astype(int)]


def robust_sd(values: Floats) -> float:
    """The standard deviation as outliers leave it: from the median absolute deviation from the median.

    Where that is 0, since more than half of the values are equal: from the mean absolute deviation.
    """
    apart = np.abs(values - np.median(values))
    return float(SD_OF_MAD * np.median(apart)) or float(SD_OF_MEAN_DEVIATION * apart.mean())


def robust_z(values: Floats) -> Floats:
    """How many robust sds each value lies from the median (Iglewicz, Hoaglin 1993); 0 where all equal it."""
    sd = robust_sd(values)
    return np.zeros_like(values) if sd == 0 else (values - np.median(values)) / sd


def distance_from(own: Floats, others: Floats) -> float:
    """How many robust sds of `others` the mean of `own` lies from their median.

    Infinite where the others are all equal and it differs.
    """
    apart, sd = abs(float(own.mean() - np.median(others))), robust_sd(others)
    if sd == 0:
        return 0.0 if apart == 0 else float("inf")
    return apart / sd


def nearest_links(hashes: NDArray[np.bool_], max_distance: int) -> list[Link]:
    """The shortest links that hold each group of near hashes (N×B bits) together: minimum spanning trees.

    Groups are those of `group_duplicates`. No link is longer than `max_distance`, and wherever a group has
    members of two kinds some link joins them. Memory grows with N, not N².
    """
    members: dict[int, list[int]] = {}
    for index, first in enumerate(group_duplicates(hashes, max_distance)):
        members.setdefault(first, []).append(index)
    return [link for group in members.values() if len(group) > 1 for link in _span(hashes[group], group)]


def _span(hashes: NDArray[np.bool_], names: Sequence[int]) -> list[Link]:
    """Prim's algorithm from the first hash on."""
    signs = np.where(hashes, 1, -1).astype(np.float32)
    newest = 0
    outside = np.ones(len(signs), np.bool_)
    apart = np.full(len(signs), np.inf, np.float32)
    nearest = np.zeros(len(signs), np.intp)
    links = []
    for _ in range(len(signs) - 1):
        outside[newest] = False
        bits = (signs.shape[1] - signs @ signs[newest]) / 2
        closer = bits < apart
        apart[closer], nearest[closer] = bits[closer], newest
        newest = int(np.where(outside, apart, np.inf).argmin())
        first, second = sorted((names[nearest[newest]], names[newest]))
        links.append(Link(first, second, int(apart[newest])))
    return links


def shrink(image: Pixels, side: int) -> Pixels:
    """A square uint8 image (S×S or S×S×3) as `side`×`side`, averaged; itself where it is no larger."""
    if image.shape[0] <= side:
        return image
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def trace_outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """The outlines of a mask's parts and of their holes: K×2 corners (x, y) each."""
    found, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(outline, np.int32).reshape(-1, 2) for outline in found]
