"""Fingerprints of images: exact (a hash of the pixels) and perceptual (equal for images that look alike)."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flames_cli.arrays import Pixels
from flames_cli.core.imaging.frames import crop_to_content, replace_frame
from flames_cli.core.imaging.near_duplicates import PHASH_SIZE, hash_picture
from flames_cli.core.imaging.reduction import halve, reduce_by_lanczos

REDUCED = 192
"""Number of pixels of the short side that is sufficient; larger images are averaged first, in whole steps.

With fewer pixels, `NEAR_BITS` of `core.imaging.near_duplicates` no longer separates copies from other images.
"""

GRID = 4 * PHASH_SIZE
"""Side of the picture whose low frequencies are hashed; the library imagehash has the same factor."""


def content_hash(image: Pixels) -> str:
    """Return the SHA-256 of the pixels, their shape and dtype: equal only for equal images."""
    digest = hashlib.sha256(f"{image.shape}{image.dtype}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def perceptual_hash(image: Pixels) -> NDArray[np.bool_]:
    """Return PHASH_SIZE² bits of the low DCT frequencies of a uint8 H×W or H×W×3 image.

    A black frame around the picture, such as that of an endoscope, is replaced first: it would decide most of
    the bits.
    """
    return hash_picture(_to_grid(_reduce(image)))


def orientation_hashes(image: Pixels, orientations: int = 8) -> NDArray[np.bool_]:
    """Return K×PHASH_SIZE² bits: the perceptual hashes of the box of the content in its first K orientations.

    The picture is cropped to its content, and turned: slices may be stored turned, mirrored, and with more or
    less air around the patient. With one orientation, it is the picture as it is.
    """
    grid = _to_grid(crop_to_content(_reduce(image)))
    turned = [np.rot90(grid, quarters) for quarters in range(4)]
    both = (*turned, *(one.T for one in turned))
    return np.stack([hash_picture(one) for one in both[:orientations]])


def _reduce(image: Pixels) -> NDArray[np.uint8]:
    """Return the picture in grey, with a short side of REDUCED to 2 REDUCED pixels if it has more."""
    step = min(image.shape[:2]) // REDUCED
    if image.ndim == 2 and step <= 2:
        return halve(image) if step == 2 else image
    picture = Image.fromarray(image)
    return np.asarray((picture.reduce(step) if step > 1 else picture).convert("L"))


def _to_grid(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey picture as GRID×GRID pixels without a black frame."""
    height, width = picture.shape
    if width >= height:
        return replace_frame(reduce_by_lanczos(picture, GRID))
    # Pillow takes the columns first where a picture is much higher than it is wide.
    resized = Image.fromarray(picture).resize((GRID, GRID), Image.Resampling.LANCZOS)
    return replace_frame(np.asarray(resized))
