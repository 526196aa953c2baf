"""Still images: decoding to grey, and masks with known values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from flames_cli.arrays import Mask, Pixels
from flames_cli.readers.base import BadCase, RawCase, SkippedCase, Source

MAX_PIXELS = 50_000_000
"""More than any scanner or probe writes: a larger header is a bomb or a mistake."""


def read_grey(path: Path) -> Pixels:
    """The image as H×W uint8 grey (ITU-R 601 luma), upright by its EXIF tag; 16 bits are scaled to 8.

    Raises:
        BadCase: the file is missing, is not an image, ends early, or claims more than MAX_PIXELS.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadCase(f"{path.name}: its header claims {image.width}×{image.height} pixels")
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                return (np.asarray(upright).astype(np.uint32) * 255 // 65535).astype(np.uint8)
            return np.asarray(upright.convert("L"))
    except FileNotFoundError as error:
        raise BadCase(f"{path.name}: there is no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadCase(f"{path.name}: cannot be read as an image ({_short(error)})") from error


def _short(error: Exception) -> str:
    """Pillow quotes whole paths; the file is already named."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if "/" not in text and "\\" not in text else type(error).__name__


def read_still(source: Source, mask_name: str, allowed: Sequence[frozenset[int]]) -> list[RawCase]:
    """One case: the source's image in grey, with the union of its masks.

    Args:
        source: an image and its masks.
        mask_name: the mask to expect, for the message where there is none.
        allowed: see `read_masks`.

    Raises:
        BadCase: no mask, or image or mask cannot be trusted.
        SkippedCase: the mask is empty.
    """
    if not source.masks:
        raise BadCase(f"{source.name}: no mask, expected {mask_name}")
    image = read_grey(source.image)
    mask = read_masks(source.masks, image.shape, allowed)
    if not mask.any():
        raise SkippedCase("the mask is empty")
    return [RawCase(case=source.patient, patient=source.patient, image=image, mask=mask)]


def read_masks(paths: Sequence[Path], shape: tuple[int, ...], allowed: Sequence[frozenset[int]]) -> Mask:
    """The union of the masks as H×W of 0 and 1.

    Args:
        paths: the masks of one image.
        shape: of the image, H×W.
        allowed: the sets of values that a mask may hold, such as {0, 255}.

    Raises:
        BadCase: a mask is missing or corrupt, has another shape, or holds other values.
    """
    union = np.zeros(shape, np.uint8)
    for path in paths:
        mask = read_grey(path)
        if mask.shape != shape:
            raise BadCase(
                f"{path.name}: the mask is {mask.shape[0]}×{mask.shape[1]}, its image {shape[0]}×{shape[1]}"
            )
        values = set(np.flatnonzero(np.bincount(mask.ravel())).tolist())
        if not any(values <= known for known in allowed):
            known_text = " or ".join(str(sorted(known)) for known in allowed)
            raise BadCase(f"{path.name}: the mask holds the values {_few(values)}, expected {known_text}")
        union |= (mask > 0).astype(np.uint8)
    return union


def _few(values: set[int]) -> str:
    listed = sorted(values)
    return str(listed) if len(listed) <= 6 else f"{listed[:5]} and {len(listed) - 5} more"
