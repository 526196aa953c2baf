import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from flames_cli.readers.formats.png import SIGNATURE, decode_simple

MAX_PIXELS = 10**6


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def filtered(pixels: np.ndarray, filters: list[int]) -> bytes:
    """The rows of a PNG, row by row under None (0), Sub (1), Up (2) or Average (3)."""
    rows = []
    for index, (row, kind) in enumerate(zip(pixels.astype(int), filters, strict=True)):
        above = pixels[index - 1].astype(int) if index else np.zeros_like(row)
        left = np.concatenate([[0], row[:-1]])
        delta = {0: row, 1: row - left, 2: row - above, 3: row - (left + above) // 2}[kind]
        rows.append(bytes([kind]) + (delta % 256).astype(np.uint8).tobytes())
    return b"".join(rows)


def png(pixels: np.ndarray, filters: list[int], extra: bytes = b"", **header) -> bytes:
    height, width = pixels.shape
    fields = {"depth": 8, "colour": 0, "compression": 0, "filter": 0, "interlace": 0} | header
    start = struct.pack(">II5B", width, height, *fields.values())
    data = zlib.compress(filtered(pixels, filters))
    half = len(data) // 2
    parts = [chunk(b"IDAT", data[:half]), chunk(b"IDAT", data[half:])]
    return SIGNATURE + chunk(b"IHDR", start) + extra + b"".join(parts) + chunk(b"IEND", b"")


@st.composite
def drawn(draw) -> tuple[np.ndarray, list[int]]:
    pixels = draw(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
    return pixels, draw(st.lists(st.integers(0, 2), min_size=len(pixels), max_size=len(pixels)))


@given(drawn())
def test_every_simple_image_is_what_pillow_makes_of_it(image):
    pixels, filters = image
    data = png(pixels, filters)
    np.testing.assert_array_equal(decode_simple(data, MAX_PIXELS), pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4), st.integers(0, 255), st.booleans())
def test_wide_rows_of_few_values_and_of_many_are_what_was_drawn(edges, level, is_noisy):
    """A shape that may touch the right edge, without noise and with it."""
    (top, bottom), (left, right) = sorted(edges[:2]), sorted(edges[2:])
    pixels = np.zeros((40, 40), np.uint8)
    pixels[top:bottom, left:right] = level
    if is_noisy:
        pixels ^= np.random.default_rng(level).integers(0, 256, pixels.shape, np.uint8)
    np.testing.assert_array_equal(decode_simple(png(pixels, [1] * 40), MAX_PIXELS), pixels)


MASK = np.zeros((6, 9), np.uint8)
MASK[2:4, 3:7] = 255


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        SIGNATURE,
        png(MASK, [3] * 6),
        png(MASK, [0] * 6, depth=16),
        png(MASK, [0] * 6, colour=3),
        png(MASK, [0] * 6, interlace=1),
        png(MASK, [0] * 6, extra=chunk(b"eXIf", b"MM")),
        png(MASK, [0] * 6)[:-1],
        png(MASK, [0] * 6)[:50],
        png(MASK, [0] * 5 + [0])[:-30] + b"x" + png(MASK, [0] * 6)[-29:],
    ],
    ids=[
        "empty",
        "gif",
        "bare",
        "average",
        "16 bit",
        "palette",
        "interlaced",
        "exif",
        "cut",
        "short",
        "flip",
    ],
)
def test_all_else_is_left_to_pillow(data):
    assert decode_simple(data, MAX_PIXELS) is None


def test_an_image_larger_than_allowed_is_left_to_pillow():
    assert decode_simple(png(MASK, [1] * 6), MASK.size) is not None
    assert decode_simple(png(MASK, [1] * 6), MASK.size - 1) is None


def test_a_bomb_is_not_inflated():
    """Sixteen mebibytes of zeros under a header that claims 6×9."""
    rows = zlib.compress(bytes(2**24))
    start = struct.pack(">II5B", 9, 6, 8, 0, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_simple(bomb, MAX_PIXELS), np.zeros((6, 9), np.uint8))


@given(st.binary(max_size=80), st.integers(0, 200))
def test_no_bytes_whatever_raise(junk, position):
    sound = png(MASK, [1] * 6)
    decoded = decode_simple(sound[:position] + junk + sound[position:], MAX_PIXELS)
    assert decoded is None or (decoded.dtype, decoded.ndim) == (np.uint8, 2)
    assert decode_simple(SIGNATURE + junk, MAX_PIXELS) is None, "80 bytes hold no image and its checksums"
