"""Online augmentation: draw, then apply. The draw is plain data; image and mask share it."""

from dataclasses import dataclass

import numpy as np

from flames_cli.core.imaging.geometry import Warp


@dataclass(frozen=True, slots=True)
class AugmentRanges:
    """How far each part may go; the paper names the parts (section 5.3), not the ranges."""

    rotation_deg: float = 20.0
    zoom: float = 0.15
    """1 ± this."""
    stretch: float = 0.15
    shift: float = 0.08
    """Fraction of the side."""
    flip_x: float = 0.5
    """Probability."""
    flip_y: float = 0.5


def draw_warp(rng: np.random.Generator, ranges: AugmentRanges = AugmentRanges()) -> Warp:
    """One warp: zoom and stretch log-uniform, so that growing and shrinking are as likely."""
    spread = rng.uniform(-1.0, 1.0, size=5)
    zoom = np.log1p([ranges.zoom, ranges.stretch]) * spread[1:3]
    flips = rng.random(2)
    return Warp(
        rotation_deg=float(spread[0] * ranges.rotation_deg),
        zoom=float(np.exp(zoom[0])),
        stretch=float(np.exp(zoom[1])),
        shift_x=float(spread[3] * ranges.shift),
        shift_y=float(spread[4] * ranges.shift),
        flip_x=bool(flips[0] < ranges.flip_x),
        flip_y=bool(flips[1] < ranges.flip_y),
    )
