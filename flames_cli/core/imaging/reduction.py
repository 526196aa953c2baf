"""Reduction of grey pictures, with the pixels that Pillow returns and in less than half of its time."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_SUPPORT = 3
"""Half of the width of the Lanczos kernel, in new pixels."""
_ONE = 2**22
"""Weights are multiples of 1 / _ONE, as in Pillow; so sums of weighted pixels are exact in float64."""


def halve(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the means of 2×2 pixels of a grey picture H×W, rounded up; fewer pixels at the end of an odd
    side.

    It is `PIL.Image.Image.reduce(2)`.
    """
    height, width = picture.shape
    if height % 2 or width % 2:
        picture = np.asarray(
            cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8
        )
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def reduce_by_lanczos(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a grey picture H×W as `side`×`side` pixels, by Lanczos over the area of each new pixel.

    It is `PIL.Image.Image.resize` for pictures that are at least as wide as they are high. Each row is
    resampled first and rounded, as in Pillow.
    """
    height, width = picture.shape
    turned = _rounded(_weights(width, side) @ cv2.transpose(picture).astype(np.float64))
    return _rounded(_weights(height, side) @ np.ascontiguousarray(turned.T)).astype(np.uint8)


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return grey levels of weighted sums of pixels, in place."""
    sums += _ONE / 2
    sums /= _ONE
    np.floor(sums, out=sums)
    return np.clip(sums, 0, 255, out=sums)


@lru_cache(maxsize=1024)
def _weights(n: int, side: int) -> sparse.csr_array:
    """Return the side×n weights of n pixels, in units of 1 / _ONE."""
    scale = n / side
    step = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    first = np.maximum((centre - _SUPPORT * step + 0.5).astype(int), 0)
    end = np.minimum((centre + _SUPPORT * step + 0.5).astype(int), n)
    source = first[:, None] + np.arange((end - first).max())
    distance = (source - centre[:, None] + 0.5) / step
    weights = np.sinc(distance) * np.sinc(distance / _SUPPORT) * (np.abs(distance) < _SUPPORT)
    weights *= source < end[:, None]
    weights /= weights.sum(axis=1, keepdims=True)
    whole = np.trunc(weights * _ONE + np.copysign(0.5, weights))
    used = whole != 0
    ends = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return sparse.csr_array((whole[used], source[used], ends), shape=(side, n))
