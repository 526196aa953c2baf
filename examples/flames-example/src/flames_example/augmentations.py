"""An augmentation for ultrasound."""

import numpy as np

LARGEST_SIGMA = 0.15
"""Largest standard deviation of the noise, as a part of each pixel's own value."""


def speckle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a training image C×H×W in [0, 1] with speckle: noise that grows with the brightness of a pixel.

    All draws come from `rng`: the same seed then gives the same images on every machine.
    """
    sigma = rng.uniform(0, LARGEST_SIGMA)
    noise = rng.standard_normal(image.shape[-2:], dtype=np.float32)
    return np.clip(image * (1 + np.float32(sigma) * noise), 0, 1)
