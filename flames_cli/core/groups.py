"""Near-duplicate images, found by perceptual hash and grouped so that copies never straddle a split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Chosen on 132 BUSI and 360 OTU_2d images, by looking at the closest pairs. With 16×16 = 256 bits:
#   0-28   one frame saved again: crop, calipers, text, JPEG (BUSI 0-20; benign (433) = malignant (145) is 0)
#   32-44  the same lesion one frame on
#   54-70  nearby frames of probably one patient; from 72 on, different patients appear (BUSI: from 90)
# so 44 ends at the gap. Tails grow twofold every 3.3 bits: below one false pair in all 1,469 of OTU_2d.
# 8×8 hashes leave no such gap: there, same frames reach 8 and different lesions start at 8 to 10.
# Mirror images are not found, nor is a crop of more than about 2 % a side.
PHASH_SIZE = 16
PHASH_MAX_DISTANCE = 44

_BLOCK = 512


def group_duplicates(hashes: NDArray[Any], max_distance: int) -> list[int]:
    """For each case, the index of the first member of its group; a case alone is its own.

    `hashes` N×B, bool or 0/1, a row a case. Cases at most `max_distance` differing bits apart share a group,
    and so do cases linked by others in between. ValueError on other values or a negative distance.
    Memory grows with N, not N².
    """
    signs = _signs(hashes)
    if max_distance < 0:
        raise ValueError(f"got max_distance {max_distance}, expected 0 or more bits; 0 groups equal hashes")
    first = np.arange(len(signs))
    for start in range(0, len(signs), _BLOCK):
        near = _distances(signs[start : start + _BLOCK], signs) <= max_distance
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            _unite(first, np.flatnonzero(near[row]))
    return [int(index) for index in first]


def _distances(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hamming distances: the product of ±1 rows is the bits alike less those that differ."""
    return (signs.shape[1] - rows @ signs.T) / 2


def _unite(first: NDArray[np.intp], members: NDArray[np.intp]) -> None:
    """Give every group that has one of `members` the smallest first index among them."""
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
