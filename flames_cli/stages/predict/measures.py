"""Figures of one predicted mask: size, lesions, diameter."""

import math
from dataclasses import dataclass

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.imaging.diameters import largest_diameter
from flames_cli.core.scores.metrics import MM3_PER_ML
from flames_cli.stages.predict.preparing import Prepared


@dataclass(frozen=True, slots=True)
class Measures:
    """Size of a mask; None where the spacing is unknown, or the number is not one of that kind of image."""

    pixels: int
    n_lesions: int
    area_mm2: float | None = None
    volume_ml: float | None = None
    largest_diameter_mm: float | None = None
    largest_diameter_px: float | None = None


def measure(stack: Mask, prepared: Prepared) -> Measures:
    """Return the figures of a mask, N×H×W, in the geometry of its source."""
    voxel = prepared.voxel_mm
    is_known = all(math.isfinite(length) and length > 0 for length in voxel)
    pixels = int(np.count_nonzero(stack))
    if prepared.place is not None:
        n, length = largest_diameter(stack, voxel if is_known else (1.0,) * 3)
        return Measures(
            pixels=pixels,
            n_lesions=n,
            volume_ml=pixels * math.prod(voxel) / MM3_PER_ML if is_known else None,
            largest_diameter_mm=length if is_known and n else None,
        )
    n, in_px = largest_diameter(stack[0], (1.0, 1.0))
    in_mm = largest_diameter(stack[0], voxel)[1] if is_known else 0.0
    return Measures(
        pixels=pixels,
        n_lesions=n,
        area_mm2=pixels * math.prod(voxel) if is_known else None,
        largest_diameter_mm=in_mm if is_known and n else None,
        largest_diameter_px=in_px if n else None,
    )
