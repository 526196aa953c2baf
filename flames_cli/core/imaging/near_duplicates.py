"""Clusters of near-duplicate images, which no split may divide: by perceptual hash or by shared marks.

A cluster is named after its first member.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

# The thresholds were chosen by inspecting the closest pairs of 132 BUSI and 360 OTU_2d images. Neither data
# set names its patients, so "same" is a visual judgement. Distances between hashes of 16×16 = 256 bits:
#   0-28   one frame saved again: crop, calipers, text, JPEG (BUSI 0-26; benign (433) = malignant (145) is 0)
#   29-44  the same lesion, about one frame later (7 pairs of OTU_2d)
#   45-100 nearby frames of what looks like one patient, if their numbers are near as well
# Other patients start at 54 bits in liver CT (lits-slices), at 62 in brain MRI (slices of Task01), at 72 in
# endoscopy (Kvasir-SEG) and in OTU_2d (numbers more than 20 apart) and at 90 in BUSI; 44 is below all of
# these. Before black frames were replaced (core.imaging.frames) endoscopy started at 48, and 220 different
# frames of Kvasir behind one octagonal black frame at 38, so that 9 pairs of them were at most 44 apart; now
# these start at 52 (one pair; the next at 72). An image saved again, 5 % brighter or darker or at 60 % of its
# size, is at most 30 bits away with such a frame, and at most 24 without. A crop of 1 % per side reaches 42.
# So where patients are named, and the frames of one patient stay together anyway, only a distance of 0-28
# joins two patients. Not detected: mirror images, and many crops of more than 2 % per side. Copies may have
# different masks (OTU_2d 282 and 285 mark two lesions of one frame), so masks do not show whether an image is
# a copy.
#
# Numbers that follow the scanner (BUSI, OTU_2d) are evidence, so a looser distance is enough. In the 360
# images of OTU_2d, 121 pairs are at most 3 numbers and 100 bits apart. By chance there would be 6, measured
# on images more than 20 numbers apart. The largest group that these links make has 5 images; at 104 bits it
# would have 12, and a tenth of the pairs would be chance.
PHASH_SIZE = 16
"""Side of the square of frequencies in a hash, of one bit each."""
NEAR_BITS = 44
"""Largest distance between neighbouring frames of one lesion."""
COPY_BITS = 28
"""Largest distance between two copies of one frame."""
SERIES_BITS = 100
"""Largest distance between two images of one series whose numbers are near: perhaps of one patient."""
SERIES_STEP = 3
"""Largest difference of the numbers of such images."""

_BLOCK = 512


def hash_picture(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return PHASH_SIZE² bits of a picture N×N: whether each low DCT frequency is above their median.

    It is `phash` of the library imagehash, in half of its time.
    """
    rows = dct(picture.astype(np.float64), axis=0)[:PHASH_SIZE]
    low = dct(rows, axis=1)[:, :PHASH_SIZE].ravel()
    return np.asarray(low > np.median(low))


def cluster_near_duplicates(hashes: NDArray[Any], max_distance: int) -> list[int]:
    """Return for each case the index of the first member of its cluster.

    Two cases are in one cluster if at most `max_distance` bits differ, or if other cases link them. A case
    without near duplicates is the only member of its cluster. Memory grows with N, not N².

    Args:
        hashes: N×B, bool or 0/1, one row per case.
        max_distance: largest number of differing bits; 0 joins only equal hashes.

    Raises:
        ValueError: `hashes` has other values or another shape, or `max_distance` is negative.
    """
    signs = _signs(hashes)
    if max_distance < 0:
        raise ValueError(f"got max_distance {max_distance}, expected 0 or more bits; 0 joins equal hashes")
    first = np.arange(len(signs))
    for start in range(0, len(signs), _BLOCK):
        # Those before this block have met it already.
        near = _distances(signs[start : start + _BLOCK], signs[start:]) <= max_distance
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            _unite(first, start + np.flatnonzero(near[row]))
    return [int(index) for index in first]


def find_series_links(
    hashes: NDArray[Any], places: Sequence[tuple[str, int] | None]
) -> list[tuple[int, int, int]]:
    """Return (first, second, bits) of each two images of one series with near numbers that look alike.

    Args:
        hashes: N×B, bool or 0/1, one row per image.
        places: series and number of each image; None for an image of no series.
    """
    placed = [(place, index) for index, place in enumerate(places) if place]
    order = [index for _, index in sorted(placed)]
    series = np.array([place[0] for place, _ in sorted(placed)])
    numbers = np.array([place[1] for place, _ in sorted(placed)], np.int64)
    bits = np.asarray(hashes, np.bool_)[order]
    links = []
    for step in range(1, len(order)):
        near = (series[step:] == series[:-step]) & (numbers[step:] - numbers[:-step] <= SERIES_STEP)
        if not near.any():
            break
        rows = np.flatnonzero(near)
        distances = (bits[rows] != bits[rows + step]).sum(axis=1)
        for row, distance in zip(
            rows[distances <= SERIES_BITS], distances[distances <= SERIES_BITS], strict=True
        ):
            first, second = sorted((order[row], order[row + step]))
            links.append((first, second, int(distance)))
    return sorted(links)


def find_turned_copies(hashes: NDArray[Any], turned: NDArray[Any]) -> list[tuple[int, int, int]]:
    """Return (image, slice, bits) of every image and slice that are at most COPY_BITS apart in some
    orientation.

    Args:
        hashes: N×B, bool or 0/1, one row per image.
        turned: M×K×B, the hashes of M slices in K orientations.
    """
    signs = _signs(hashes)
    found = []
    for start in range(0, len(turned), _BLOCK // 8):
        block = turned[start : start + _BLOCK // 8]
        distances = _distances(_signs(block.reshape(-1, block.shape[-1])), signs)
        nearest = distances.reshape(*block.shape[:2], len(signs)).min(axis=1)
        found += [
            (int(image), start + int(index), int(nearest[index, image]))
            for index, image in np.argwhere(nearest <= COPY_BITS)
        ]
    return sorted(found)


def cluster_by_marks(marks: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return for each name the first name in its cluster.

    Two names are in one cluster if they share a mark, or if other names link them.
    """
    position = {name: index for index, name in enumerate(marks)}
    parent = {name: name for name in marks}
    marked: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for name, own in marks.items():
        for mark in own:
            first, later = sorted((root(marked.setdefault(mark, name)), root(name)), key=position.__getitem__)
            parent[later] = first
    return {name: root(name) for name in marks}


def _distances(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Hamming distances: the product of ±1 rows is the number of equal bits minus the unequal ones."""
    return np.asarray((signs.shape[1] - rows @ signs.T) / 2)


def _unite(first: NDArray[np.intp], members: NDArray[np.intp]) -> None:
    """Merge the clusters of all `members` under the smallest first index among them."""
    roots = np.unique(first[members])
    if roots.size > 1:
        first[np.isin(first, roots)] = roots[0]


def _signs(hashes: NDArray[Any]) -> NDArray[np.float32]:
    if hashes.ndim != 2 or not np.isin(hashes, (0, 1)).all():
        raise ValueError(
            f"got hashes of shape {hashes.shape} and type {hashes.dtype}, expected N×B bits (0 or 1); "
            "flatten each hash to its bits"
        )
    return np.where(hashes, 1, -1).astype(np.float32)
