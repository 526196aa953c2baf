"""Clusters of near-duplicate images, which no split may divide: by perceptual hash or by shared marks.

A cluster is named after its first member.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The thresholds were chosen on 132 BUSI and 360 OTU_2d images by inspecting the closest pairs. Neither data
# set names its patients, so "same" is a visual judgement. Distances between hashes of 16×16 = 256 bits:
#   0-28   one frame saved again: crop, calipers, text, JPEG (BUSI 0-20; benign (433) = malignant (145) is 0)
#   32-44  the same lesion, about one frame later
#   54-70  nearby frames of what looks like one patient; from 72 (BUSI: from 90), other patients
# So 44 is at the lower end of the gap. Above the gap, the number of pairs doubles every 3.3 bits;
# extrapolated down, that predicts fewer than one false pair among the 1,469 images of OTU_2d. 8×8 hashes
# have no clear gap: copies of one frame reach 8, other lesions start near 10. For other data the margin is
# small: other patients start at 48 in liver CT and in endoscopy with a black border, and at 66 in brain
# MRI. So where patients are named, and the frames of one patient stay together anyway, only a distance of
# 0-28 joins two patients. Not detected: mirror images, and many crops of more than 2 % per side. Copies may
# have different masks (OTU_2d 282 and 285 mark two lesions of one frame), so masks do not show whether an
# image is a copy.
PHASH_SIZE = 16
NEAR_BITS = 44
"""Largest distance between neighbouring frames of one lesion."""
COPY_BITS = 28
"""Largest distance between two copies of one frame."""

_BLOCK = 512


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
        near = _distances(signs[start : start + _BLOCK], signs) <= max_distance
        for row in np.flatnonzero(near.sum(axis=1) > 1):
            _unite(first, np.flatnonzero(near[row]))
    return [int(index) for index in first]


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
