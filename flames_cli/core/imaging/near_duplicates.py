"""Copies of images, grouped so that they never straddle a split: by perceptual hash or by shared marks."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Chosen on 132 BUSI and 360 OTU_2d images by looking at the closest pairs: neither set names its patients, so
# "same" is a judgement by eye. Distances between hashes of 16×16 = 256 bits:
#   0-28   one frame saved again: crop, calipers, text, JPEG (BUSI 0-20; benign (433) = malignant (145) is 0)
#   32-44  the same lesion, about one frame on
#   54-70  nearby frames of what looks like one patient; from 72 on (BUSI: from 90), other patients
# so 44 ends at the gap. Above it pairs double every 3.3 bits; extended down, that foretells fewer than one
# false pair among the 1,469 of OTU_2d. 8×8 hashes have no clean gap: one frame reaches 8, other lesions start
# near 10. Elsewhere the margin is thin: other patients begin at 48 in liver CT and framed endoscopy, at 66 in
# brain MRI; so where patients are named, and frames of one are grouped anyway, only 0-28 groups two of them.
# Missed: mirror images, and many crops beyond 2 % a side. Copies may carry other masks (OTU_2d 282 and 285
# mark two lesions of one frame), so masks are no test of a copy.
PHASH_SIZE = 16
NEAR_BITS = 44
"""Neighbouring frames of one lesion, or nearer."""
COPY_BITS = 28
"""One frame saved again, or nearer."""

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


def first_alike(marks: Mapping[str, Collection[str]]) -> dict[str, str]:
    """For each name, the first one that it shares a mark with, directly or through others in between."""
    position = {name: index for index, name in enumerate(marks)}
    parent = {name: name for name in marks}
    bearer: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for name, own in marks.items():
        for mark in own:
            first, later = sorted((root(bearer.setdefault(mark, name)), root(name)), key=position.__getitem__)
            parent[later] = first
    return {name: root(name) for name in marks}


def _distances(rows: NDArray[np.float32], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hamming distances: the product of ±1 rows is the bits alike less those that differ."""
    return np.asarray((signs.shape[1] - rows @ signs.T) / 2)


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
