"""Figures on the quality of images and masks, and outliers among them. H W pixels, N cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Floats, Mask, Pixels
from flames_cli.core.imaging.intensity import ValueCounts, count_values
from flames_cli.core.imaging.near_duplicates import cluster_near_duplicates

PERCENTILES = (1, 50, 99)

SD_OF_MAD = 1.4826
"""Standard deviation / median absolute deviation from the median, of a normal distribution."""

SD_OF_MEAN_DEVIATION = 1.2533
"""Standard deviation / mean absolute deviation from the median, of a normal distribution."""

SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Edges of the bins in which lesions are counted, by their share of the image."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """Statistics of the pixels of one image, clipped to its window, in the image's own units."""

    mean: float
    sd: float
    p1: float
    p50: float
    p99: float


class Link(NamedTuple):
    """Two of N hashes, first before second, and the number of bits in which they differ."""

    first: int
    second: int
    bits: int


def measure_intensity(
    image: Pixels, low: float, high: float, counted: ValueCounts | None = None
) -> Intensity:
    """Return mean, standard deviation and percentiles of `image` (H×W or H×W×3), clipped to low..high.

    `counted` is the result of `count_values` for the image, if it is known.

    The standard deviation is that of a population. The p-th percentile is the smallest value that p % of the
    pixels do not exceed.
    """
    found, counts = counted or count_values(image)
    values = np.clip(found.astype(np.float64), low, high)
    if values[0] == values[-1]:  # exact, where a sum of shares would leave a small deviation
        return Intensity(values[0].item(), 0.0, *(values[0].item() for _ in PERCENTILES))
    share = counts / counts.sum()
    mean = float(values @ share)
    sd = float(np.sqrt(np.square(values - mean) @ share))
    # A little is subtracted, since a product that should be an integer may be slightly above it.
    places = np.searchsorted(np.cumsum(counts), np.array(PERCENTILES) / 100 * counts.sum() - 1e-6)
    return Intensity(mean, sd, *(float(values[place]) for place in places))


def count_shares(shares: Sequence[float]) -> list[int]:
    """Count the `shares`, in 0..1, in each bin of SHARES; an edge belongs to the bin above it."""
    return [int(count) for count in np.histogram(shares, SHARES)[0]]


def spread_sample(values: Sequence[float], n: int) -> list[int]:
    """Return the indices of at most `n` values, evenly spaced in ascending order, both ends included."""
    order = np.argsort(values, kind="stable")
    places = np.linspace(0, len(order) - 1, min(n, len(order)))
    return [int(order[place]) for place in np.rint(places).astype(int)]


def robust_sd(values: Floats) -> float:
    """Return a standard deviation that outliers hardly change: that of the median absolute deviation.

    If that is 0, since more than half of the values are equal, the mean absolute deviation is used.
    """
    distance = np.abs(values - np.median(values))
    return float(SD_OF_MAD * np.median(distance)) or float(SD_OF_MEAN_DEVIATION * distance.mean())


def robust_z(values: Floats) -> Floats:
    """Return each value's distance from the median in robust standard deviations; all 0 if all are equal.

    Source: Iglewicz, Hoaglin 1993.
    """
    sd = robust_sd(values)
    return np.zeros_like(values) if sd == 0 else (values - np.median(values)) / sd


def distance_from(own: Floats, others: Floats) -> float:
    """Return the distance of the mean of `own` from the median of `others`, in robust sds of `others`.

    The result is infinite if all `others` are equal and the mean differs from them.
    """
    distance, sd = abs(float(own.mean() - np.median(others))), robust_sd(others)
    if sd == 0:
        return 0.0 if distance == 0 else float("inf")
    return distance / sd


def nearest_links(hashes: NDArray[np.bool_], max_distance: int) -> list[Link]:
    """Return the minimum spanning tree of each near-duplicate cluster of hashes (N×B bits).

    Clusters are those of `cluster_near_duplicates`. No link is longer than `max_distance`. If a cluster has
    members of two kinds, some link joins the two. Memory grows with N, not N².
    """
    members: dict[int, list[int]] = {}
    for index, first in enumerate(cluster_near_duplicates(hashes, max_distance)):
        members.setdefault(first, []).append(index)
    return [
        link for cluster in members.values() if len(cluster) > 1 for link in _span(hashes[cluster], cluster)
    ]


def _span(hashes: NDArray[np.bool_], names: Sequence[int]) -> list[Link]:
    """Build the minimum spanning tree by Prim's algorithm, from the first hash."""
    signs = np.where(hashes, 1, -1).astype(np.float32)
    newest = 0
    outside = np.ones(len(signs), np.bool_)
    distance = np.full(len(signs), np.inf, np.float32)
    nearest = np.zeros(len(signs), np.intp)
    links = []
    for _ in range(len(signs) - 1):
        outside[newest] = False
        bits = (signs.shape[1] - signs @ signs[newest]) / 2
        closer = bits < distance
        distance[closer], nearest[closer] = bits[closer], newest
        newest = int(np.where(outside, distance, np.inf).argmin())
        first, second = sorted((names[nearest[newest]], names[newest]))
        links.append(Link(first, second, int(distance[newest])))
    return links


def shrink(image: Pixels, side: int) -> Pixels:
    """Average a square uint8 image (S×S or S×S×3) to `side`×`side`; return it unchanged if S ≤ side."""
    if image.shape[0] <= side:
        return image
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def trace_outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """Return the outlines of a mask's parts and of their holes, K×2 corners (x, y) each."""
    found, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(outline, np.int32).reshape(-1, 2) for outline in found]
