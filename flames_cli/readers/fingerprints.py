"""Fingerprints of images: exact (a hash of the pixels) and perceptual (alike to the eye)."""

import hashlib

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flames_cli.arrays import Pixels
from flames_cli.core.groups import PHASH_SIZE


def content_hash(image: Pixels) -> str:
    """SHA-256 of the pixels with their shape and dtype: equal only for equal images."""
    header = f"{image.shape}{image.dtype}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).hexdigest()


def perceptual_hash(image: Pixels) -> NDArray[np.bool_]:
    """PHASH_SIZE² bits of the low DCT frequencies of a uint8 H×W image (imagehash.phash)."""
    return np.asarray(imagehash.phash(Image.fromarray(image), hash_size=PHASH_SIZE).hash).ravel()
