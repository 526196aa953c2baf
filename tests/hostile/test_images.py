"""Small images that claim to be large, or that refer to programs and other files."""

import struct
import zlib

import pytest

from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.readers.base import find_root, require_sources
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.images import read_deep_image
from tests.support.memory import message_with_little_memory

ZEROS = zlib.compress(bytes(2**25), 9)
"""Compressed data of 32 kB that inflate to 32 MB."""
TAGS = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 2, 279: 4}
"""Tags of a sound TIFF: width, height, bits, compression, meaning of 0, strip, samples, rows, bytes."""


def png(*chunks, size=(1, 1), colour=2, content=None):
    header = struct.pack(">IIBBBBB", *size, 8, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(4)) if content is None else content
    parts = ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def tiff(more=(), after=0, **changes):
    tags = {**TAGS, **{int(name[1:]): value for name, value in changes.items()}}
    entries = [(tag, 4, 1, value) for tag, value in tags.items()] + list(more)
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", after) + bytes(300)


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + header


BOMBS = {
    "a comment": png((b"zTXt", b"a\0\0" + ZEROS)),
    "a comment in Unicode": png((b"iTXt", b"a\0\1\0\0\0" + ZEROS)),
    "a profile": png((b"iCCP", b"a\0\0" + ZEROS)),
    "a size": png(size=(10**5, 10**4)),
    "a TIFF's size": tiff(t256=10**9, t257=10**9),
    "a TIFF's rows": tiff(t256=7000, t257=7000, t259=8, t279=2**31),
    "a TIFF's samples": tiff(t256=7000, t257=7000, t277=65535),
    "a deep TIFF's size": tiff(t258=16, t256=10**9, t257=10**9),
    "a deep TIFF's rows": tiff(t258=16, t256=7000, t257=7000, t259=8, t279=2**31),
    "a deep TIFF's samples": tiff(t258=16, t256=7000, t257=7000, t277=65535),
    "a deep TIFF's strips": tiff(t258=16, t256=7000, t257=7000, t277=3, t262=2),
    "a deep TIFF's tiles": tiff(
        [(322, 4, 1, 2**31 - 16), (323, 4, 1, 16), (324, 4, 1, 200), (325, 4, 1, 4)], t258=16
    ),
    "a deep TIFF's tall tiles": tiff(
        [(322, 4, 1, 16), (323, 4, 1, 2**31 - 16), (324, 4, 1, 200), (325, 4, 1, 4)], t258=16
    ),
    "a deep TIFF's list": tiff([(324, 4, 2**30, 8), (322, 4, 1, 16), (323, 4, 1, 16)], t258=16),
    "a deep TIFF's planes": tiff([(284, 4, 1, 2)], t258=16, t277=4, t262=2, t256=7000, t257=7000),
    "a BMP's size": bmp(2**31 - 1, 2**31 - 1),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
}


@pytest.mark.parametrize("claim", BOMBS)
def test_images_that_claim_too_much_are_rejected(claim, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(BOMBS[claim])
    assert message_with_little_memory(lambda: read_deep_image(path)).startswith("BadCase")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "content",
    [png(colour=2, content=ZEROS), tiff(after=8), tiff([(700, 1, 2**32 - 1, 8)])],
    ids=["more pixels than said", "pages in a circle", "a tag without end"],
)
def test_excess_data_next_to_the_pixels_is_not_read(content, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert message_with_little_memory(lambda: read_deep_image(path).shape).startswith(("read", "BadCase"))


def element(group, tag, kind, value):
    return struct.pack("<HH2sH", group, tag, kind, len(value)) + value


def dicom(content):
    syntax = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(syntax))) + syntax + content


ITEM = struct.pack("<HH2sHIHHI", 0x5200, 0x9230, b"SQ", 0, 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)


def frames(count):
    sizes = [(0x10, b"US", b"\1\0"), (0x11, b"US", b"\1\0"), (0x100, b"US", b"\x08\0")]
    described = element(0x28, 4, b"CS", b"MONOCHROME2 ") + element(0x28, 8, b"IS", count)
    return described + b"".join(element(0x28, *size) for size in sizes)


@pytest.mark.parametrize(
    "content",
    [
        ITEM * 3000,
        struct.pack("<HH2sHI", 8, 0x60, b"UN", 0, 2**32 - 2),
        frames(b"2147483647"),
        frames(b"9" * 12),
    ],
    ids=["items within items", "a length", "frames", "more frames"],
)
def test_dicom_that_claims_too_much_is_rejected(content, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(content))
    assert message_with_little_memory(lambda: read_series(path)).startswith("BadCase")


def test_a_name_that_is_not_utf_8_is_rejected(tmp_path):
    reader = READERS["kvasir"]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a\udcff.jpg").touch()
    with pytest.raises(FlamesError, match=r"'a\\udcff(\.jpg)?', a name that is not UTF-8"):
        require_sources(reader, find_root(reader, tmp_path))
