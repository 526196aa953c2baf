"""Pixels of an image that its window makes white or black, so that they cannot be distinguished any more."""

from dataclasses import dataclass

import numpy as np

from flames_cli.arrays import Floats, Mask, Pixels
from flames_cli.core.imaging.intensity import ValueCounts, count_values

DARK = 0.1
"""Share of the window: darker pixels may be the noise of air, and do not count as visible."""
BELOW = 0.05
"""Share of the window: pixels that are less below its low end do not count as black."""
AIR = 1.8
"""Distance below the low end, in windows, from which pixels are air or padding, even in a lesion's mask: -880
HU where the window is (-160, 240); lung is above it."""
RANGE = (0.5, 99.5)
"""Percentiles of tissue between which a window shows it."""
LESION_RANGE = (2.0, 98.0)
"""Percentiles of the lesion between which a window shows it."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """Numbers of pixels of one image that are at the ends of its window, or beyond them.

    Background is the most frequent value of the image, and its lowest: it is air or padding in most images, 0
    in the middle of z-scores, and few pixels elsewhere. Tissue is all other pixels.
    """

    low: float
    high: float
    tissue_px: int
    black_px: int
    """Pixels of tissue that are below the window by more than BELOW."""
    visible_px: int
    """Pixels of tissue that are not DARK."""
    white_px: int
    """Pixels of tissue at the high end or above it."""
    lesion_px: int
    """Pixels of the lesion that are not AIR."""
    lesion_black_px: int
    lesion_white_px: int
    lesion_white_px_of_foreground: int
    """Pixels of the lesion that the percentile of the image's foreground would make white."""
    tissue_range: tuple[float, float]
    """Percentiles RANGE of tissue, in the image's own units."""
    lesion_range: tuple[float, float]
    """Percentiles LESION_RANGE of the lesion; the window, if there is no lesion."""
    lesion_level: float
    """Median of the lesion: 0 at the low end of the window, 1 at its high end."""


def measure_clipping(
    image: Pixels,
    mask: Mask,
    low: float,
    high: float,
    percentile: float,
    counted: ValueCounts | None = None,
) -> Clipping:
    """Count the pixels of `image` (H×W or H×W×3) that the window low..high makes white or black.

    `percentile` is that of the foreground, {v: v > 0}. `counted` is the result of `count_values` for an image
    H×W, if it is known.
    """
    grey = image if image.ndim == 2 else image.max(axis=2)
    values, counts = counted if counted and image.ndim == 2 else count_values(grey)
    tissue = grey[(grey != values[counts.argmax()]) & (grey != values[0])].astype(np.float64)
    width = high - low
    lesion = grey[mask > 0].astype(np.float64)
    lesion = lesion[lesion > low - AIR * width]
    foreground = grey[grey > 0]
    white_point = np.percentile(foreground, percentile) if foreground.size else np.inf
    visible = tissue[tissue > low + DARK * width]
    return Clipping(
        low=low,
        high=high,
        tissue_px=tissue.size,
        black_px=int((tissue < low - BELOW * width).sum()),
        visible_px=visible.size,
        white_px=int((visible >= high).sum()),
        lesion_px=lesion.size,
        lesion_black_px=int((lesion <= low).sum()),
        lesion_white_px=int((lesion >= high).sum()),
        lesion_white_px_of_foreground=int((lesion >= white_point).sum()),
        tissue_range=_percentiles(tissue, RANGE, (low, high)),
        lesion_range=_percentiles(lesion, LESION_RANGE, (low, high)),
        lesion_level=(float(np.median(lesion)) - low) / width if lesion.size else 0.0,
    )


def _percentiles(
    values: Floats, which: tuple[float, float], otherwise: tuple[float, float]
) -> tuple[float, float]:
    if not values.size:
        return otherwise
    first, last = np.percentile(values, which)
    return float(first), float(last)
