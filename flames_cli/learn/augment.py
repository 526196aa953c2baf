"""Online augmentation in two steps, draw and apply. The draw is plain data that image and mask share."""

from dataclasses import dataclass

import numpy as np

from flames_cli.core.imaging.geometry import Warp


@dataclass(frozen=True, slots=True)
class AugmentRanges:
    """Limits of each part of the augmentation. The paper names the parts (section 5.3) but not the limits."""

    rotation_deg: float = 20.0
    """Largest rotation, to either side."""
    zoom: float = 0.15
    """Largest zoom: images grow or shrink by a factor of up to 1 + zoom."""
    stretch: float = 0.15
    """Largest stretch of one axis against the other, a factor like zoom."""
    shift: float = 0.08
    """Largest shift, as a fraction of the image's side."""
    flip_x: float = 0.5
    """Probability of a flip from left to right."""
    flip_y: float = 0.5
    """Probability of a flip from top to bottom."""


def draw_warp(rng: np.random.Generator, ranges: AugmentRanges = AugmentRanges()) -> Warp:
    """Draw one warp. Zoom and stretch are log-uniform, so that growing and shrinking are equally likely."""
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
