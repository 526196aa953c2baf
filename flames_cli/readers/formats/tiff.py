"""Read TIFF samples that Pillow reduces, rejects or reads wrongly: deep, signed, inverted and planar ones.

Pillow halves 48-bit colours, leaves 16-bit WhiteIsZero inverted, and refuses three samples that are declared
as grey, which is how CVC-ClinicDB is distributed. Here Pillow only decompresses: a directory of our own
describes the strips or tiles as plain bytes (TIFF 6.0, sections 8 and 15).
"""

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flames_cli.arrays import Pixels
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.tiff_directory import (
    BITS,
    COMPRESSION,
    EXTRA,
    FILL_ORDER,
    HEIGHT,
    LAYOUT,
    MEANING,
    ORIENTATION,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    STRIP_BYTES,
    STRIP_ROWS,
    STRIPS,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILES,
    WIDTH,
    Directory,
)

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
UNSIGNED, SIGNED, UNDEFINED = 1, 2, 4
SEPARATE_PLANES = 2
HORIZONTAL_DIFFERENCES = 2

PLAIN = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions of plain bytes: none, LZW, Deflate (two numbers), PackBits, LZMA and Zstandard."""

_MAX_PLANE_BYTES = 89_000_000
"""Largest number of bytes of one plane: Pillow warns of more, since each byte is a pixel for it."""
_MAX_TILE_SIDE = 4096
"""Largest side of a tile, if it is larger than its image."""

ALPHA = (1, 2)
"""Kinds of an extra sample that are transparency."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Decoded samples of one image."""

    pixels: Pixels
    """H×W grey or H×W×3 RGB, as shown: inverted where 0 is white, not turned."""
    alpha: Pixels | None
    """H×W transparency, or None."""
    orientation: int
    """EXIF orientation, 1 to 8."""


def needs_own_reading(directory: Directory) -> bool:
    """Return whether Pillow would reduce, reject or wrongly read the image."""
    meaning, samples = directory.tags.get(MEANING, (-1,))[0], directory.first(SAMPLES)
    if meaning not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        return False
    if max(directory.each(BITS)) > 8:
        return True
    has_odd_layout = samples > 1 and (directory.first(LAYOUT) == SEPARATE_PLANES or meaning != RGB)
    is_odd = directory.is_big or has_odd_layout or SIGNED in directory.each(SAMPLE_FORMAT)
    return is_odd and directory.each(BITS) == {8} and directory.first(COMPRESSION) in PLAIN


def has_short_samples(directory: Directory) -> bool:
    """Return whether `needs_own_reading` is True and no sample has more than 16 bits."""
    return needs_own_reading(directory) and max(directory.each(BITS)) <= 16


def declare_rgb(data: bytes, directory: Directory) -> bytes:
    """Return `data` with three samples that are declared as grey declared as RGB; other files unchanged."""
    declared = directory.tags.get(MEANING, (-1,))[0], directory.first(SAMPLES)
    if declared != (BLACK_IS_ZERO, 3):
        return data
    changed = bytearray(data)
    struct.pack_into(directory.order + "H", changed, directory.meaning_at, RGB)
    return bytes(changed)


def read_samples(name: str, data: bytes, directory: Directory) -> Samples:
    """Return the samples of an image for which `needs_own_reading` is True; `name` is the file's.

    Raises:
        BadCase: its samples are of a kind that is not read.
        ValueError, OSError, struct.error: its header, strips or tiles are damaged.
    """
    colours, has_alpha = _roles(name, directory)
    bits, kind = _sample_type(name, directory)
    planes = directory.first(SAMPLES) if directory.first(LAYOUT) == SEPARATE_PLANES else 1
    parts = [_read_plane(name, data, directory, plane, planes, bits) for plane in range(planes)]
    values = parts[0] if planes == 1 else np.concatenate(parts, axis=2)
    if kind == SIGNED:
        values = values.view(values.dtype.str.replace("u", "i"))
    if directory.first(MEANING) == WHITE_IS_ZERO:
        values = 4095 - values if bits == 12 else ~values
    values = _narrow(name, values)
    if colours == 3 and values.dtype == np.int16:
        raise BadCase(f"{name}: its colours are signed numbers; save them with 8 or 16 bits without a sign")
    pixels = values[..., :3] if colours == 3 else values[..., 0]
    orientation = directory.first(ORIENTATION)
    return Samples(
        np.ascontiguousarray(pixels),
        values[..., colours] if has_alpha else None,
        orientation if 1 <= orientation <= 8 else 1,
    )


def _roles(name: str, directory: Directory) -> tuple[int, bool]:
    """Return the number of colours, 1 or 3, and whether the sample after them is transparency."""
    samples, meaning, extra = (
        directory.first(SAMPLES),
        directory.first(MEANING),
        directory.tags.get(EXTRA, ()),
    )
    if samples == 1:
        return 1, False
    # Three samples that are declared as grey are colours in every known data set, and for viewers.
    if samples == 3 and meaning in (BLACK_IS_ZERO, RGB) and not {*ALPHA} & {*extra}:
        return 3, False
    if samples == 4 and meaning == RGB:
        return 3, not extra or extra[0] in ALPHA
    if samples == 2 and meaning != RGB and extra[:1] and extra[0] in ALPHA:
        return 1, True
    raise BadCase(
        f"{name}: it has {samples} samples per pixel, expected grey or RGB; save it as one of these"
    )


def _sample_type(name: str, directory: Directory) -> tuple[int, int]:
    """Return the number of bits of a sample, and UNSIGNED or SIGNED."""
    kinds = {UNSIGNED if kind == UNDEFINED else kind for kind in directory.each(SAMPLE_FORMAT)}
    bits, kind = directory.each(BITS), kinds.pop()
    if kinds or kind not in (UNSIGNED, SIGNED):
        raise BadCase(
            f"{name}: its pixels are numbers of {max(bits)} bits with fractions; save it with 8 or 16"
        )
    if bits not in ({8}, {12}, {16}, {32}) or (bits == {12} and kind == SIGNED):
        raise BadCase(f"{name}: its samples have {sorted(bits)} bits, expected 8 or 16; save it with these")
    return bits.pop(), kind


def _narrow(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return integers as uint8, uint16 or int16 without changing any."""
    if values.dtype == np.int8:
        return values.astype(np.int16)
    if values.dtype.itemsize <= 2:
        return values.astype(values.dtype.newbyteorder("="))
    for dtype in (np.uint16, np.int16):
        if np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    raise BadCase(f"{name}: its pixels are numbers of 32 bits; save it with 8 or 16")


def _read_plane(
    name: str, data: bytes, directory: Directory, plane: int, planes: int, bits: int
) -> NDArray[Any]:
    """Return H×W×samples unsigned integers of one plane."""
    width, height = directory.first(WIDTH), directory.first(HEIGHT)
    samples, predictor = directory.first(SAMPLES) // planes, directory.first(PREDICTOR)
    if predictor not in (1, HORIZONTAL_DIFFERENCES) or (bits == 12 and predictor != 1):
        raise ValueError(f"its predictor is {predictor}")
    tile_width = directory.first(TILE_WIDTH) if TILES in directory.tags else width
    if not 0 < tile_width <= max(width, _MAX_TILE_SIDE):
        raise ValueError(f"its tiles are {tile_width} pixels wide")
    row_bytes, tile_bytes = ((side * samples * bits + 7) // 8 for side in (width, tile_width))
    if row_bytes * height > _MAX_PLANE_BYTES:
        raise ValueError(f"it has {row_bytes * height} bytes of pixels, expected up to {_MAX_PLANE_BYTES}")
    rows = _decompress(data, _plain_directory(name, directory, plane, planes, (row_bytes, tile_bytes)))
    if bits == 12:
        unpacked = _unpack_12_bits(rows, tile_bytes, tile_width * samples)
        return unpacked[:, : width * samples].reshape(height, width, samples)
    values = rows.view(np.dtype(f"{directory.order}u{bits // 8}")).reshape(height, width, samples)
    if predictor == 1:
        return values
    summed = values.astype(values.dtype.newbyteorder("="))
    for left in range(0, width, tile_width):
        block = summed[:, left : left + tile_width]
        np.cumsum(block, axis=1, dtype=block.dtype, out=block)
    return summed


def _unpack_12_bits(rows: Pixels, tile_bytes: int, tile_samples: int) -> NDArray[np.uint16]:
    """Return the samples of rows in which two of 12 bits have three bytes, the high bits first."""
    unpacked = []
    for left in range(0, rows.shape[1], tile_bytes):
        packed = rows[:, left : left + tile_bytes]
        packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 3))).astype(np.uint16)
        first, middle, last = packed[:, 0::3], packed[:, 1::3], packed[:, 2::3]
        pairs = np.stack([first << 4 | middle >> 4, (middle & 15) << 8 | last], axis=2)
        unpacked.append(pairs.reshape(len(rows), -1)[:, :tile_samples])
    return np.concatenate(unpacked, axis=1)


def _plain_directory(
    name: str, directory: Directory, plane: int, planes: int, row_bytes: tuple[int, int]
) -> dict[int, tuple[int, ...]]:
    """Return the tags that describe one plane as grey of 8 bits, a pixel for each byte.

    `row_bytes` are the bytes in a row of the image and in a row of a tile.
    """
    compression = directory.first(COMPRESSION)
    if compression not in PLAIN:
        raise BadCase(f"{name}: its deep samples have compression {compression}; save it with LZW or none")
    height = directory.first(HEIGHT)
    tags: dict[int, tuple[int, ...]] = {
        WIDTH: (row_bytes[0],),
        HEIGHT: (height,),
        BITS: (8,),
        COMPRESSION: (compression,),
        MEANING: (BLACK_IS_ZERO,),
        SAMPLES: (1,),
    }
    if TILES in directory.tags:
        tile_height = directory.first(TILE_HEIGHT)
        if not 0 < tile_height <= max(height, _MAX_TILE_SIDE):
            raise ValueError(f"its tiles are {tile_height} pixels high")
        tags |= {TILE_WIDTH: (row_bytes[1],), TILE_HEIGHT: (tile_height,)}
        places = (TILES, TILE_BYTES)
    else:
        rows = directory.tags.get(STRIP_ROWS, (height,))[0]
        tags[STRIP_ROWS] = (min(rows, height),)
        places = (STRIPS, STRIP_BYTES)
    if FILL_ORDER in directory.tags:
        tags[FILL_ORDER] = directory.tags[FILL_ORDER]
    for tag in places:
        values = directory.tags.get(tag, ())
        share, rest = divmod(len(values), planes)
        if not share or rest:
            raise ValueError(f"tag {tag} has {len(values)} values for {planes} planes")
        tags[tag] = values[plane * share : (plane + 1) * share]
    return tags


def _decompress(data: bytes, tags: Mapping[int, Sequence[int]]) -> Pixels:
    """Return H×W bytes that `tags` describe in `data`."""
    start = len(data) + len(data) % 2
    entries, arrays = [], b""
    after = start + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        packed = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        value = packed
        if len(packed) > 4:
            value = struct.pack("<I", after + len(arrays))
            arrays += packed
        entries.append(struct.pack("<HHI", tag, 4, len(tags[tag])) + value)
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    described = b"II*\0" + struct.pack("<I", start) + data[8:] + bytes(len(data) % 2) + directory + arrays
    with Image.open(io.BytesIO(described), formats=("TIFF",)) as image:
        return np.array(image)
