"""The built-in augmentations: each changes the intensities of one image, with a probability of CHANGED.

An image is C×H×W float32 in [0, 1] (C 1 grey, 3 colour), and so is the result. All channels of an image are
changed alike, but for noise. Torchvision's functions are not used: its blur takes 6 to 30 times as long as
OpenCV's, and starts torch's threads in each of the threads that prepare images (docs/decisions.md).
"""

import math
from collections.abc import Callable
from functools import wraps

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

CHANGED = 0.3
"""Probability with which an augmentation changes an image, nnU-Net's for gamma (Isensee et al. 2021)."""

GAMMA = 1.5
"""Largest exponent; the smallest is its inverse. Exponents are log-uniform, so that darker and brighter
images are equally likely."""

BLUR_PIXELS = (0.5, 1.0)
"""Range of the standard deviation of the Gaussian, uniform, in pixels of the prepared image; nnU-Net's."""

NOISE = 0.05
"""Largest standard deviation of the noise, uniform from 0, as a fraction of the range of intensities."""

FIELD_DEGREE = 3
"""Degree of the polynomial of the bias field, that of MONAI's RandBiasField."""

FIELD_COEFFICIENT = 0.2
"""Largest absolute coefficient of that polynomial, uniform. Nearly all factors are from 0.4 to 2.5, at the
corners of the image; half of all pixels change by less than 15 %."""


def _sometimes(change: Callable[[Image, np.random.Generator], Image]) -> Callable[..., Image]:
    """Return `change` with a probability of CHANGED, clipped to [0, 1]; else the image itself."""

    @wraps(change)
    def changed(image: Image, rng: np.random.Generator) -> Image:
        return np.clip(change(image, rng), 0, 1) if rng.random() < CHANGED else image

    return changed


@_sometimes
def change_gamma(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with contrast changed by an exponent, `image ** gamma`."""
    gamma = math.exp(rng.uniform(-1, 1) * math.log(GAMMA))
    found: Image = image ** np.float32(gamma)
    return found


@_sometimes
def blur(image: Image, rng: np.random.Generator) -> Image:
    """Return the image blurred by a Gaussian, as of a scanner with a lower resolution."""
    sigma = rng.uniform(*BLUR_PIXELS)
    return np.stack([cv2.GaussianBlur(channel, (0, 0), sigma) for channel in image])


@_sometimes
def add_noise(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with Gaussian noise, drawn for each pixel and channel."""
    strength = np.float32(rng.uniform(0, NOISE))
    return image + strength * rng.standard_normal(image.shape, dtype=np.float32)


@_sometimes
def multiply_by_bias_field(image: Image, rng: np.random.Generator) -> Image:
    """Return the image with smoothly varying brightness, as by an MRI coil: image · exp(f).

    f(x, y) is the sum of c_ij·P_i(x)·P_j(y) over i + j ≤ FIELD_DEGREE, with Legendre polynomials P over the
    image's sides from -1 to 1. The formula is that of MONAI's RandBiasField, after Van Leemput et al.,
    "Automated model-based tissue classification of MR images of the brain", 1999; MONAI's coefficients are
    from 0 to 0.1 and so only brighten most of the image.
    """
    terms = FIELD_DEGREE + 1
    coefficients = rng.uniform(-FIELD_COEFFICIENT, FIELD_COEFFICIENT, (terms, terms))
    coefficients[np.add.outer(range(terms), range(terms)) > FIELD_DEGREE] = 0
    rows, columns = (np.linspace(-1, 1, length) for length in image.shape[1:])
    field = np.polynomial.legendre.leggrid2d(rows, columns, coefficients)
    return image * np.exp(field).astype(np.float32)
