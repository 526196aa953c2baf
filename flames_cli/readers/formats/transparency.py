"""Transparent pixels of still images: their colours are arbitrary, and some masks are drawn in alpha."""

from pathlib import Path

import numpy as np
from PIL import Image

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.png import DEPTH_AT


def is_opaque(image: Image.Image, data: bytes) -> bool:
    """Return whether no pixel of an image, whose file is `data`, is transparent."""
    if image.mode[-1] in "Aa":
        return image.getchannel(image.mode[-1]).getextrema() == (255, 255)
    return not _has_transparent_value(image, data)


def require_opaque(path: Path, is_opaque: bool) -> None:
    """Raise BadCase if a pixel is transparent: its colour is arbitrary; some masks are drawn in alpha."""
    if not is_opaque:
        raise BadCase(f"{path.name}: it is transparent in parts; save it without an alpha channel")


def _has_transparent_value(image: Image.Image, data: bytes) -> bool:
    """Return whether the pixels of a PNG without alpha have a value that its tRNS chunk makes transparent.

    `data` is the file: Pillow scales grey of 1, 2 or 4 bits to 8, but not the value of tRNS.
    """
    value = image.info.get("transparency")
    if value is None:
        return False
    pixels = np.asarray(image)
    if isinstance(value, bytes):
        return bool((np.frombuffer(value.ljust(256, b"\xff"), np.uint8)[pixels] < 255).any())
    if image.mode in ("1", "L"):
        value = value * 255 // (2 ** min(data[DEPTH_AT], 8) - 1)
        return bool((pixels.astype(np.int64) * (255 if image.mode == "1" else 1) == value).any())
    if image.mode == "RGB":
        value = tuple(channel >> (8 if data[DEPTH_AT] == 16 else 0) for channel in value)
        return bool((pixels == value).all(axis=2).any())
    return bool((pixels == value).any())
