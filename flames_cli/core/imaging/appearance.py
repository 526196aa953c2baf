"""Appearance of a prepared image in three numbers, by which unlike images are noticed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Appearance:
    """Numbers of one image in [0, 1]; in colour, over its three channels together."""

    mean: float
    """Mean intensity."""
    deviation: float
    """Standard deviation of the intensities."""
    black: float
    """Share of the values that are 0."""


def describe_appearance(image: NDArray[np.float32]) -> Appearance:
    """Return the appearance of an image, S×S or S×S×3, in [0, 1]."""
    return Appearance(
        float(image.mean(dtype=np.float64)),
        float(image.std(dtype=np.float64)),
        float((image == 0).mean()),
    )
