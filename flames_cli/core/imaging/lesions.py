"""Number and size of the lesions of a mask. Areas are in pixels."""

from dataclasses import dataclass

import cv2
import numpy as np

from flames_cli.arrays import Mask


@dataclass(frozen=True, slots=True)
class LesionSize:
    """Number and size of the lesions of one mask; all values are 0 if the mask is empty."""

    area_px: int
    """Area of all lesions together."""
    n: int
    """Number of connected parts; pixels that touch at a corner are connected."""
    smallest_px: int
    """Area of the smallest part (of equal ones, the one with the smaller box)."""
    smallest_box_px: int
    """Area of the upright bounding box of the smallest part."""


NO_LESION = LesionSize(0, 0, 0, 0)

FULL_MASK = 0.9
"""Share of the image above which a mask is most likely inverted; our own choice."""


def share_of(mask: Mask) -> float:
    """Return the share of the image that `mask` (H×W of 0 and 1, uint8) covers, 0..1."""
    return np.count_nonzero(mask.view(bool)) / mask.size


def measure_lesions(mask: Mask) -> LesionSize:
    """Count and measure the connected parts of `mask` (H×W of 0 and 1), by 8 neighbours."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return NO_LESION
    # Only the bounding box is labelled: most of an image is background, which takes as long to label.
    box = np.ascontiguousarray(mask[top : top + height, left : left + width])
    n, _, stats, _ = cv2.connectedComponentsWithStats(box, connectivity=8)
    parts = stats[1:]
    areas = parts[:, cv2.CC_STAT_AREA]
    boxes = parts[:, cv2.CC_STAT_WIDTH] * parts[:, cv2.CC_STAT_HEIGHT]
    smallest = np.lexsort((boxes, areas))[0]
    return LesionSize(int(areas.sum()), int(n) - 1, int(areas[smallest]), int(boxes[smallest]))
