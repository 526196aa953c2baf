"""Decode still images to grey or colour."""

import io
import mmap
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
from flames_cli.readers.formats import tiff
from flames_cli.readers.formats.content import describe, recognise_file
from flames_cli.readers.formats.png import is_deep_colour, is_grey
from flames_cli.readers.formats.tiff_directory import (
    HEIGHT,
    WIDTH,
    count_pages,
    is_tiff,
    read_directory,
    start_at_page,
)
from flames_cli.readers.formats.transparency import is_opaque, require_opaque

MAX_PIXELS = 50_000_000
"""Largest number of pixels, more than any scanner or probe writes: more is an attack or an error."""

JPEG_START = b"\xff\xd8\xff"
MAX_16_BIT = 65535

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Formats that Pillow may detect, whatever the file's name: for others it starts programs or guesses."""

DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""Exceptions that Pillow raises for damaged files; some of them only for TIFF."""


def read_image(path: Path, colour: bool = False) -> Pixels:
    """Return the image as uint8, upright by its EXIF tag: H×W grey (ITU-R 601 luma), or H×W×3 RGB.

    16-bit values are scaled to 8 bits.

    Raises:
        BadCase: the file is missing, is not an image, ends early, states more than MAX_PIXELS, has 32-bit
            or signed values, or is partly transparent.
    """
    pixels = decode_image(path, colour)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.int16:
        raise BadCase(f"{path.name}: its pixels are signed numbers, expected 0 or more; save it with 8 bits")
    return (pixels.astype(np.uint32) * 255 // MAX_16_BIT).astype(np.uint8)


def decode_image(path: Path, colour: bool = False) -> Pixels:
    """Return the image like `read_image`, but with deep values unchanged: uint8, uint16 or int16."""
    with _named_errors(path):
        return _decode(path, _read_bytes(path), colour)


def read_deep_image(path: Path, colour: bool = False, page: int = 0) -> Pixels:
    """Return the image like `decode_image`.

    Args:
        path: the file.
        colour: True to keep colours.
        page: number of the page of a TIFF, from 1; 0: the file has one image.

    Raises:
        BadCase: see `read_image`; or the file has several pages and none is named, or not that page.
    """
    with _named_errors(path):
        data = _read_bytes(path)
        if not page:
            _require_one_page(path, data)
            return _decode(path, data, colour)
        pages = count_pages(data) if is_tiff(data) else 1
        if page > pages:
            raise BadCase(
                f"{path.name}: frame {page} does not exist, the file has {pages}; correct the column frame"
            )
        return _decode(path, start_at_page(data, page) if pages > 1 else data, colour)


def _require_one_page(path: Path, data: bytes) -> None:
    if is_tiff(data) and (pages := count_pages(data)) > 1:
        raise BadCase(
            f"{path.name}: it contains {pages} pages, expected one image; save each as a file, or write the "
            "number of one into the column frame of the manifest"
        )


def count_images(path: Path) -> int:
    """Return the number of pages of a TIFF; 1 for other files, and for those that are damaged."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return count_pages(data) if is_tiff(data) else 1
    except DAMAGE:
        return 1


def _read_bytes(path: Path) -> bytes:
    if not path.is_file() and path.exists():
        raise BadCase(f"{path.name}: it is not a file; expected an image")
    return path.read_bytes()


def _decode(path: Path, data: bytes, colour: bool) -> Pixels:
    if data.startswith(JPEG_START) and b"Exif\0\0" not in data:
        quick = _decode_jpeg(path, data, colour)
        return _decode_any(path, data, colour) if quick is None else quick
    return _decode_tiff(path, data, colour) if is_tiff(data) else _decode_any(path, data, colour)


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


def _decode_tiff(path: Path, data: bytes, colour: bool) -> Pixels:
    directory = read_directory(data)
    if not tiff.needs_own_reading(directory):
        return _decode_any(path, tiff.declare_rgb(data, directory), colour)
    _check_size(path, directory.first(WIDTH), directory.first(HEIGHT))
    samples = tiff.read_samples(path.name, data, directory)
    if samples.alpha is not None:
        require_opaque(path, bool((samples.alpha == np.iinfo(samples.alpha.dtype).max).all()))
    return _turn(to_channels(samples.pixels, colour), samples.orientation)


def _decode_any(path: Path, data: bytes, colour: bool) -> Pixels:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_size(path, image.width, image.height)
        image.load()
        if is_deep_colour(data):  # Pillow keeps the high bytes only
            require_opaque(path, is_opaque(image, data))
            return _turn(to_channels(_decode_deep_png(data), colour), _orientation(image))
        upright = _turn_upright(image)
        if upright.mode[0] in "IF":
            require_opaque(path, is_opaque(upright, data))
            return to_channels(_to_16_bits(path, upright), colour)
        require_opaque(path, is_opaque(upright, data))
        upright.info.pop("transparency", None)  # Pillow would warn of it
        wanted = "RGB" if colour else "L"
        return np.asarray(upright if upright.mode == wanted else upright.convert(wanted))


def _decode_deep_png(data: bytes) -> Pixels:
    """Return the 16-bit colours or grey of a PNG that Pillow has read without an error: H×W×3 RGB."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise ValueError("its 16-bit samples are damaged")
    return np.ascontiguousarray(pixels[..., 2::-1])


def to_channels(pixels: Pixels, colour: bool) -> Pixels:
    """Return H×W grey or H×W×3 RGB as H×W×3 if `colour`, else as H×W luma."""
    if colour:
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    if pixels.ndim == 2:
        return pixels
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), 2, 0)
    # The weights of ITU-R 601 as Pillow rounds them; the sum is below 2³² for 16 bits.
    luma: Pixels = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(pixels.dtype)
    return luma


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Return the image upright, by the EXIF orientation with which it was stored (1 to 8)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _to_16_bits(path: Path, image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > MAX_16_BIT:
        raise BadCase(f"{path.name}: its pixels are numbers of 32 bits; save it with 8 or 16")
    return values.astype(np.uint16)


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
    except UnidentifiedImageError as error:
        content = recognise_file(path)
        if content.name in FORMATS:  # a kind of it that is not decoded here, such as JPEG of 12 bits
            raise BadCase(
                f"{path.name}: cannot be read as an image (it is {content.name} of a kind that is not read, "
                "or damaged); save it as PNG, or fetch it again"
            ) from error
        raise BadCase(f"{path.name}: cannot be read as an image ({describe(content)})") from error
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise BadCase(
            f"{path.name}: cannot be read as an image ({_short(error)}); fetch it again, or save it as PNG"
        ) from error


def _orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _turn_upright(image: Image.Image) -> Image.Image:
    """Return the image upright; only images with the tag are copied."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _short(error: Exception) -> str:
    """Return a short reason: Pillow quotes paths and objects, and the file is already named."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if "/" not in text and "\\" not in text else type(error).__name__


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
    with _named_errors(path):
        data = _read_bytes(path)
        _require_one_page(path, data)
        if data.startswith(JPEG_START):
            return StoredImage(_decode(path, data, not _is_grey_jpeg(data)), is_jpeg=True)
        if is_grey(data):
            return StoredImage(_decode(path, data, colour=False))
        return _read_indices_or_numbers(path, data) or StoredImage(_decode(path, data, colour=True))


def _is_grey_jpeg(data: bytes) -> bool:
    try:
        return str(simplejpeg.decode_jpeg_header(data)[2]) == "Gray"
    except ValueError:
        return False


def _read_indices_or_numbers(path: Path, data: bytes) -> StoredImage | None:
    """Return the indices of an image with a palette, or numbers of 32 bits; None for all other files."""
    if is_tiff(data) and tiff.has_short_samples(read_directory(data)):
        return None
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except DAMAGE:
        return None
    with image:
        if image.mode not in ("P", "I", "F"):
            return None
        _check_size(path, image.width, image.height)
        image.load()
        upright = _turn_upright(image)
        require_opaque(path, is_opaque(upright, data))
        if upright.mode != "P":
            return StoredImage(np.asarray(upright))
        colours = np.array(upright.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colours)] = colours
        return StoredImage(np.asarray(upright), palette)
