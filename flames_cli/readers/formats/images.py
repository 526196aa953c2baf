"""Decode still images to grey or colour."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from flames_cli.arrays import Pixels
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.png import SIGNATURE, decode_simple

MAX_PIXELS = 50_000_000
"""Largest number of pixels, more than any scanner or probe writes: more is an attack or an error."""

JPEG_START = b"\xff\xd8\xff"
MAX_16_BIT = 65535

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Formats that Pillow may detect, whatever the file's name: for others it starts programs or guesses."""

_PNG_DEPTH, _PNG_COLOUR = 24, 25
"""Positions in a PNG of the bits per sample and of the colour type, which is 0 for grey."""

DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""Exceptions that Pillow raises for damaged files; some of them only for TIFF."""


def read_image(path: Path, colour: bool = False) -> Pixels:
    """Return the image as uint8, upright by its EXIF tag: H×W grey (ITU-R 601 luma), or H×W×3 RGB.

    16-bit values are scaled to 8 bits.

    Raises:
        BadCase: the file is missing, is not an image, ends early, states more than MAX_PIXELS, has 32-bit
            values, or is partly transparent.
    """
    pixels = decode_image(path, colour)
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels.astype(np.uint32) * 255 // MAX_16_BIT).astype(np.uint8)


def decode_image(path: Path, colour: bool = False) -> Pixels:
    """Return the image like `read_image`, but with 16-bit values unchanged: uint8 or uint16."""
    with _named_errors(path):
        if path.exists() and not path.is_file():
            raise BadCase(f"{path.name}: it is not a file; expected an image")
        data = path.read_bytes()
        if data.startswith(JPEG_START) and b"Exif\0\0" not in data:
            quick = _decode_jpeg(path, data, colour)
        else:
            quick = None if colour else decode_simple(data, MAX_PIXELS)
        return _decode_any(path, data, colour) if quick is None else quick


def _decode_jpeg(path: Path, data: bytes, colour: bool) -> Pixels | None:
    """Decode by libjpeg-turbo, in two thirds of Pillow's time; None for CMYK and for rejected files."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(path, width, height)
        if space == "Gray" and not colour:
            return np.asarray(simplejpeg.decode_jpeg(data, "GRAY"))[..., 0]
        if space not in ("Gray", "YCbCr", "RGB"):
            return None
        # libjpeg's own grey is the luma before colours are clipped to 0..255; on coloured marks it is not
        # the grey of other tools, such as the authors' code.
        pixels = np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    except ValueError:
        return None
    return pixels if colour else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _decode_any(path: Path, data: bytes, colour: bool) -> Pixels:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(path, image.width, image.height)
        image.load()
        upright = _turn_upright(image)
        if upright.mode[0] in "IF":
            if _has_transparent_value(upright, data):
                _reject_transparent(path)
            grey = _to_16_bits(path, upright)
            return np.repeat(grey[..., None], 3, axis=2) if colour else grey
        _require_opaque(path, upright)
        if _has_transparent_value(upright, data):
            _reject_transparent(path)
        wanted = "RGB" if colour else "L"
        return np.asarray(upright if upright.mode == wanted else upright.convert(wanted))


def _to_16_bits(path: Path, image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > MAX_16_BIT:
        raise BadCase(f"{path.name}: its pixels are numbers of 32 bits; save it with 8 or 16")
    return values.astype(np.uint16)


def _require_opaque(path: Path, image: Image.Image) -> None:
    """Raise BadCase if a pixel is transparent: its colour is arbitrary; some masks are drawn in alpha."""
    if image.mode[-1] in "Aa" and image.getchannel(image.mode[-1]).getextrema() != (255, 255):
        _reject_transparent(path)


def _reject_transparent(path: Path) -> None:
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
        value = value * 255 // (2 ** min(data[_PNG_DEPTH], 8) - 1)
        return bool((pixels.astype(np.int64) * (255 if image.mode == "1" else 1) == value).any())
    if image.mode == "RGB":
        value = tuple(channel >> (8 if data[_PNG_DEPTH] == 16 else 0) for channel in value)
        return bool((pixels == value).all(axis=2).any())
    return bool((pixels == value).any())


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadCase(f"{path.name}: its header claims {width}×{height} pixels")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn every error of an image into a BadCase that names its file."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadCase(f"{path.name}: there is no such file") from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise BadCase(f"{path.name}: cannot be read as an image ({_short(error)})") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """Return the image upright; only images with the tag are copied."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _short(error: Exception) -> str:
    """Return a short reason: Pillow quotes paths and objects, and the file is already named."""
    if isinstance(error, UnidentifiedImageError):
        return "of no known format"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if "/" not in text and "\\" not in text else type(error).__name__


def read_deep_image(path: Path, colour: bool = False) -> Pixels:
    """Return the image like `read_image`, but 16-bit grey as uint16, H×W or (in colour) H×W×3.

    Raises:
        BadCase: see `read_image`; or the file has several pages.
    """
    with _named_errors(path), Image.open(path, formats=FORMATS) as image:
        _check_size(path, image.width, image.height)
        if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
            raise BadCase(f"{path.name}: it contains {pages} pages, expected one image; save each as a file")
    return decode_image(path, colour)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Pixels as the file stores them, without conversion of colours or palettes to grey."""

    pixels: Pixels
    """H×W numbers or indices of the palette, or H×W×3 RGB."""
    palette: Pixels | None = None
    """256×3 RGB; None if the pixels are no indices."""
    is_jpeg: bool = False


def read_stored_image(path: Path) -> StoredImage:
    """Return the pixels of a mask, whose values or colours are labels rather than brightness.

    Raises:
        BadCase: see `read_deep_image`; numbers of 32 bits are returned as they are.
    """
    if not path.is_file():
        return StoredImage(read_deep_image(path))
    with _named_errors(path):
        data = path.read_bytes()
    if data.startswith(JPEG_START):
        return StoredImage(read_deep_image(path, not _is_grey_jpeg(data)), is_jpeg=True)
    if data.startswith(SIGNATURE) and data[_PNG_COLOUR : _PNG_COLOUR + 1] == b"\0":
        return StoredImage(read_deep_image(path))
    return _read_indices_or_numbers(path, data) or StoredImage(read_deep_image(path, colour=True))


def _is_grey_jpeg(data: bytes) -> bool:
    try:
        return str(simplejpeg.decode_jpeg_header(data)[2]) == "Gray"
    except ValueError:
        return False


def _read_indices_or_numbers(path: Path, data: bytes) -> StoredImage | None:
    """Return the indices of an image with a palette, or numbers of 32 bits; None for all other files."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except DAMAGE:
        return None
    with _named_errors(path), image:
        _check_size(path, image.width, image.height)
        if image.mode not in ("P", "I", "F") or getattr(image, "n_frames", 1) > 1:
            return None
        image.load()
        upright = _turn_upright(image)
        if _has_transparent_value(upright, data):
            _reject_transparent(path)
        if upright.mode != "P":
            return StoredImage(np.asarray(upright))
        colours = np.array(upright.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colours)] = colours
        return StoredImage(np.asarray(upright), palette)
