"""Smooth random fields, from which the synthetic images get their textures and irregular outlines."""

import numpy as np
from scipy import fft, ndimage

from flames_cli.arrays import Floats


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]
) -> Floats:
    """Return Gaussian noise blurred by `sigma` pixels (periodic), with mean 0 and standard deviation 1."""
    spectrum = fft.rfftn(rng.standard_normal(shape))
    field = fft.irfftn(ndimage.fourier_gaussian(spectrum, sigma, n=shape[-1]), shape)
    standard: Floats = (field - field.mean()) / field.std()
    return standard
