"""Read the masks of still images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.intensity import count_values
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.images import MAX_16_BIT, decode_image, read_image

Values = frozenset[int]

BLACK_AND_WHITE = (frozenset({0, 255}), frozenset({0, 1}), frozenset({0, MAX_16_BIT}))
"""Sets of values that a mask may have if it is stored without loss."""

JPEG_THRESHOLD = 128
"""Smallest value that is tumour in masks saved as JPEG, which have every value (FedGS, section Data)."""


def read_masks(paths: Sequence[Path], shape: tuple[int, ...], allowed: Sequence[Values] | None) -> Mask:
    """Return the union of the masks as H×W of 0 and 1.

    Args:
        paths: the masks of one image.
        shape: shape of the image, H×W.
        allowed: sets of values that a mask may contain, such as {0, 255}; None: masks saved as JPEG, where
            JPEG_THRESHOLD decides.

    Raises:
        BadCase: a mask is missing or corrupt, has another shape, or has other values.
    """
    union = np.zeros(shape, bool)
    for path in paths:
        mask = read_image(path) if allowed is None else decode_image(path)
        require_shape(path, mask, shape)
        if allowed is None:
            union |= mask >= JPEG_THRESHOLD
            continue
        _check_values(path, mask, allowed)
        union |= mask > 0
    return union.view(np.uint8)


def require_shape(path: Path, mask: Pixels, shape: tuple[int, ...]) -> None:
    """Raise BadCase if a mask (H×W) has not the `shape` of its image."""
    if mask.shape != shape:
        raise BadCase(
            f"{path.name}: the mask is {mask.shape[0]}×{mask.shape[1]}, its image {shape[0]}×{shape[1]}"
        )


def _check_values(path: Path, mask: Mask, allowed: Sequence[Values]) -> None:
    if mask.max() <= 1 and {0, 1} in allowed:
        return
    values = set(count_values(mask)[0].tolist())
    if not any(values <= known for known in allowed):
        known_text = " or ".join(str(sorted(known)) for known in allowed)
        raise BadCase(f"{path.name}: the mask contains the values {_few(values)}, expected {known_text}")


def _few(values: set[int]) -> str:
    listed = sorted(values)
    return str(listed) if len(listed) <= 6 else f"{listed[:5]} and {len(listed) - 5} more"
