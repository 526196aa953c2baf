"""Lanczos resampling of images padded to a square, without the padding. H W pixels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from flames_cli.arrays import Floats, Pixels

TAPS = 8
"""Source pixels a target pixel is made of, along each axis."""


def resample_padded(image: Pixels, side: int, top: int, left: int, size: int) -> NDArray[np.float32]:
    """What `cv2.resize(padded, (size, size), interpolation=cv2.INTER_LANCZOS4)` gives in float32.

    OpenCV resamples every row of the padded image, black ones included, before it drops most of them; as two
    sparse products, rows first, only pixels that count are touched: a third of the time on ultrasound.

    Args:
        image: H×W or H×W×3.
        side: of the padded square.
        top: black rows before the image.
        left: black columns before the image.
        size: of the result, size×size or size×size×3; it may overshoot the image's range.
    """
    height, width = image.shape[:2]
    rows = _lanczos_matrix(height, top, side, size)
    columns = _lanczos_matrix(width, left, side, size)
    flat = np.asarray(image, np.float32).reshape(height, -1)
    thin = (rows @ flat).reshape(size, width, -1)
    # Columns first in memory, so that each product adds whole rows.
    turned = np.ascontiguousarray(thin.transpose(1, 0, 2)).reshape(width, -1)
    result = (columns @ turned).reshape(size, size, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(result[..., 0] if image.ndim == 2 else result)


@lru_cache(maxsize=1024)
def _lanczos_matrix(n: int, before: int, side: int, size: int) -> sparse.csr_array:
    """size×n: the weights of n pixels, which stand after `before` black ones of `side` in all.

    Beyond its border OpenCV repeats the outermost pixel.
    """
    centre = (np.arange(size) + 0.5) * (side / size) - 0.5
    first = np.floor(centre).astype(int)
    weights = _lanczos_weights(centre - first)
    source = np.clip(first[:, None] + np.arange(TAPS) - (TAPS // 2 - 1), 0, side - 1) - before
    inside = (source >= 0) & (source < n)
    ends = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
    return sparse.csr_array((weights[inside].astype(np.float32), source[inside], ends), shape=(size, n))


def _lanczos_weights(offset: Floats) -> Floats:
    """N×TAPS weights that add up to 1, for N positions `offset` (0 to 1) after the fourth tap.

    Lanczos with a = 4: sinc(x)·sinc(x/4) (Duchon, 1979).
    """
    distance = offset[:, None] - (np.arange(TAPS) - (TAPS // 2 - 1))
    weights = np.sinc(distance) * np.sinc(distance / (TAPS // 2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
