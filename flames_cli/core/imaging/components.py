"""Connected parts of masks in 2D and 3D. Pixels (voxels) that touch at a corner are connected."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask


def label_components(mask: NDArray[Any]) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected parts of `mask`, and the part of every voxel: 1 and higher, 0 outside.

    `mask` is H×W (8 neighbours) or D×H×W (26 neighbours), of 0 and 1.
    """
    filled = np.ascontiguousarray(mask, np.uint8)
    if filled.ndim == 2:
        n, labels = cv2.connectedComponents(filled, connectivity=8)
        return n - 1, np.asarray(labels, np.int32)
    from scipy.ndimage import label  # a tenth of a second, which most commands do not need

    labels, n = label(filled, np.ones((3,) * filled.ndim), np.int32)
    return int(n), labels


def largest_component(mask: Mask) -> Mask:
    """Return `mask` (H×W or D×H×W) with its largest connected part only; of equal ones, the first in order of
    voxels. An empty mask stays empty."""
    n, labels = label_components(mask)
    if n < 2:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    largest = np.flatnonzero(sizes == sizes.max()) + 1
    first = labels.ravel()[np.isin(labels.ravel(), largest).argmax()]
    return np.asarray(labels == first, np.uint8)
