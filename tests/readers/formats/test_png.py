import struct
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats import images
from flames_cli.readers.formats.images import decode_image, read_stored_image
from flames_cli.readers.formats.png import SIGNATURE


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def filtered(pixels: np.ndarray, filters: list[int]) -> bytes:
    """The rows of a PNG, row by row under None (0), Sub (1), Up (2), Average (3) or Paeth (4)."""
    rows = []
    for index, (row, kind) in enumerate(zip(pixels.astype(int), filters, strict=True)):
        above = pixels[index - 1].astype(int) if index else np.zeros_like(row)
        left = np.concatenate([[0], row[:-1]])
        corner = np.concatenate([[0], above[:-1]])
        near = np.stack([left, above, corner])
        paeth = np.take_along_axis(near, np.abs(left + above - corner - near).argmin(0)[None], 0)[0]
        guess = {0: 0, 1: left, 2: above, 3: (left + above) // 2, 4: paeth}[kind]
        delta = row - guess
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
    return pixels, draw(st.lists(st.integers(0, 4), min_size=len(pixels), max_size=len(pixels)))


@given(drawn())
def test_every_grey_image_is_what_was_drawn(image):
    pixels, filters = image
    with TemporaryDirectory() as folder:
        np.testing.assert_array_equal(decoded(Path(folder), png(pixels, filters)), pixels)
        np.testing.assert_array_equal(read_stored_image(Path(folder) / "mask.png").pixels, pixels)


MASK = np.zeros((6, 9), np.uint8)
MASK[2:4, 3:7] = 255


def decoded(folder: Path, data: bytes) -> np.ndarray:
    path = folder / "mask.png"
    path.write_bytes(data)
    return decode_image(path)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"gAMA", struct.pack(">I", 45_455)),
        chunk(b"sRGB", b"\0"),
        chunk(b"iCCP", b"a profile\0\0" + zlib.compress(bytes(200))),
        chunk(b"sBIT", b"\1"),
        chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        chunk(b"tEXt", b"Comment\0made by hand"),
        chunk(b"prVt", b"of one program only"),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_no_other_chunk_changes_a_pixel(extra, tmp_path):
    np.testing.assert_array_equal(decoded(tmp_path, png(MASK, [1] * 6, extra)), MASK)


def test_an_interlaced_image_is_what_was_drawn(tmp_path):
    """Adam7 of 6×9 pixels, written pass by pass."""
    pixels = np.arange(54, dtype=np.uint8).reshape(6, 9)
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4)]
    passes += [(2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b""
    for top, down, left, right in passes:
        part = pixels[top::down, left::right]
        rows += filtered(part, [0] * len(part)) if part.size else b""
    start = struct.pack(">II5B", 9, 6, 8, 0, 0, 0, 1)
    whole = chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decoded(tmp_path, SIGNATURE + whole), pixels)


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE,
        png(MASK, [0] * 6)[:50],
        png(np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8), [0] * 40)[:1500],
        png(MASK, [0] * 6).replace(b"IDAT", b"iDAT"),
        png(MASK, [0] * 6, depth=5),
    ],
    ids=["bare", "cut", "cut in its pixels", "no pixels", "unknown depth"],
)
def test_a_damaged_file_is_a_bad_case(data, tmp_path):
    with pytest.raises(BadCase, match=r"^mask\.png: cannot be read as an image"):
        decoded(tmp_path, data)


def test_an_image_larger_than_allowed_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", MASK.size)
    decoded(tmp_path, png(MASK, [1] * 6))
    monkeypatch.setattr(images, "MAX_PIXELS", MASK.size - 1)
    with pytest.raises(BadCase, match="its header claims 9×6 pixels"):
        decoded(tmp_path, png(MASK, [1] * 6))


def test_a_bomb_is_not_inflated(tmp_path):
    """Sixteen mebibytes of zeros under a header that claims 6×9."""
    rows = zlib.compress(bytes(2**24))
    start = struct.pack(">II5B", 9, 6, 8, 0, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decoded(tmp_path, bomb), np.zeros((6, 9), np.uint8))


@given(st.binary(max_size=80), st.integers(0, 200))
def test_no_bytes_raise_anything_else(junk, position):
    sound = png(MASK, [1] * 6)
    with TemporaryDirectory() as folder:
        for data in (sound[:position] + junk + sound[position:], SIGNATURE + junk):
            with suppress(BadCase):
                assert decoded(Path(folder), data).dtype in (np.uint8, np.uint16)
