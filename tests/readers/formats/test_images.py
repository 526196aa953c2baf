import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.images import read_deep_image, read_image

GREY = derive_rng(0, "grey").integers(0, 256, (12, 17)).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, content: bytes, name: str = "scan.png") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_in_any_mode_is_read_as_it_is(mode, tmp_path):
    image = read_image(write(tmp_path, encoded(GREY, "PNG", mode)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)


def test_colour_becomes_luma(tmp_path):
    colours = derive_rng(1, "colours").integers(0, 256, (6, 5, 3)).astype(np.uint8)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_image(write(tmp_path, encoded(colours, "PNG"))), luma, atol=1)


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert read_image(write(tmp_path, encoded(deep, "PNG"))).tolist() == [[0, 1, 128, 255]]


def test_one_bit_masks_are_black_and_white(tmp_path):
    content = encoded((GREY > 127) * np.uint8(255), "PNG", "1")
    assert np.unique(read_image(write(tmp_path, content))).tolist() == [0, 255]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("TIFF", {})])
def test_an_image_is_turned_upright_by_its_exif_tag(kind, options, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    flat = np.repeat(np.repeat(GREY // 64 * 64, 8, axis=0), 8, axis=1)
    image = read_image(write(tmp_path, encoded(flat, kind, exif=exif, **options)))
    np.testing.assert_allclose(image, np.rot90(flat, -1), atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_turned_upright_as_eight_are(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path, encoded(GREY, kind, exif=exif))
    deep = write(tmp_path, encoded(GREY.astype(np.uint16) * 257, kind, exif=exif), "deep.png")
    np.testing.assert_array_equal(read_deep_image(deep), read_image(path).astype(np.uint16) * 257)


def test_an_exif_tag_far_into_a_jpeg_is_found(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(GREY, "JPEG", exif=exif)
    comment = b"\xff\xfe" + struct.pack(">H", 65535) + bytes(65533)
    path = write(tmp_path, content[:2] + comment + content[2:])
    np.testing.assert_array_equal(read_image(path), read_image(write(tmp_path, content, "near.png")))


def deep_png(pixels: np.ndarray) -> bytes:
    """Return H×W×S samples of 16 bits as a PNG."""
    height, width, samples = pixels.shape
    colour = {2: 4, 3: 2, 4: 6}[samples]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_a_png_of_sixteen_bits_and_several_samples_keeps_its_depth(samples, tmp_path):
    pixels = derive_rng(1, "deep").integers(0, 65536, (9, 11, samples)).astype(np.uint16)
    if samples != 3:
        pixels[..., -1] = 65535
    path = write(tmp_path, deep_png(pixels))
    colours = pixels[..., :3] if samples > 2 else np.repeat(pixels[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read_deep_image(path, colour=True), colours)
    grey = read_deep_image(path)
    assert grey.dtype == np.uint16
    np.testing.assert_allclose(grey, colours @ np.array([0.299, 0.587, 0.114]), atol=2)


@pytest.mark.parametrize("samples", [2, 4])
def test_a_deep_png_that_is_transparent_in_parts_is_rejected(samples, tmp_path):
    pixels = derive_rng(1, "deep").integers(0, 65536, (9, 11, samples)).astype(np.uint16)
    with pytest.raises(BadCase, match=r"^scan\.png: it is transparent in parts"):
        read_deep_image(write(tmp_path, deep_png(pixels)))


def test_a_deep_png_cut_short_is_rejected(tmp_path):
    sound = deep_png(derive_rng(1, "deep").integers(0, 65536, (9, 11, 3)).astype(np.uint16))
    for length in range(0, len(sound) - 20, 31):
        with pytest.raises(BadCase, match=r"^scan\.png: cannot be read as an image"):
            read_deep_image(write(tmp_path, sound[:length]))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colour", [False, True])
def test_an_image_that_is_transparent_in_parts_is_rejected(mode, colour, tmp_path):
    picture, buffer = Image.fromarray(np.full_like(GREY, 255)).convert(mode), io.BytesIO()
    picture.putalpha(Image.fromarray(GREY))
    picture.save(buffer, "PNG")
    with pytest.raises(BadCase, match=r"^scan\.png: it is transparent in parts; save it without an alpha"):
        read_image(write(tmp_path, buffer.getvalue()), colour)


def test_numbers_of_thirty_two_bits_are_rejected(tmp_path):
    with pytest.raises(BadCase, match=r"^scan\.png: its pixels are numbers of 32 bits"):
        read_image(write(tmp_path, encoded(GREY.astype(np.float32) / 255, "TIFF")))


def test_a_palette_is_looked_up(tmp_path):
    picture = Image.fromarray(GREY // 128, mode="P")
    picture.putpalette([10, 10, 10, 250, 250, 250])
    picture.save(tmp_path / "palette.png")
    image = read_image(tmp_path / "palette.png")
    np.testing.assert_array_equal(image, np.where(GREY >= 128, 250, 10))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_is_what_pillow_makes_of_it(mode, tmp_path):
    colours = derive_rng(2, "jpeg").integers(0, 256, (40, 56, 3)).astype(np.uint8)
    path = write(tmp_path, encoded(colours, "JPEG", mode, quality=90), "scan.jpg")
    with Image.open(path) as picture:
        np.testing.assert_allclose(read_image(path), np.asarray(picture.convert("L")), atol=1)
        np.testing.assert_array_equal(read_image(path, colour=True), np.asarray(picture.convert("RGB")))


def test_colour_is_kept_where_it_is_wanted(tmp_path):
    colours = derive_rng(1, "colours").integers(0, 256, (6, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path, encoded(colours, "PNG")), colour=True), colours)
    grey = read_image(write(tmp_path, encoded(GREY, "PNG")), colour=True)
    np.testing.assert_array_equal(grey, np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_cut_short_is_rejected_by_name(kind, tmp_path):
    sound = encoded(GREY, kind)
    for length in range(0, len(sound) - 20, 11):
        with pytest.raises(BadCase, match=r"^scan\.png: cannot be read as an image"):
            read_image(write(tmp_path, sound[:length]))


def test_no_flipped_byte_of_a_png_changes_its_pixels_unseen(tmp_path):
    sound = encoded(GREY, "PNG")
    refused = 0
    for offset in range(len(sound)):
        path = write(tmp_path, sound[:offset] + bytes([sound[offset] ^ 0x04]) + sound[offset + 1 :])
        try:
            np.testing.assert_array_equal(read_image(path), GREY)
        except BadCase:
            refused += 1
    assert refused > len(sound) * 0.8


@pytest.mark.parametrize(
    "content", [b"", b"no image, but text\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + bytes(40)]
)
def test_a_file_that_is_not_an_image_is_rejected_without_its_path(content, tmp_path):
    with pytest.raises(BadCase, match=r"^scan\.png: ") as refused:
        read_image(write(tmp_path, content))
    assert str(tmp_path) not in str(refused.value)


def test_a_missing_image_is_rejected_by_name(tmp_path):
    with pytest.raises(BadCase, match=r"^gone\.png: "):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize(("width", "height"), [(8000, 8000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_header_that_claims_too_much_is_rejected_before_decoding(width, height, tmp_path):
    with pytest.raises(BadCase, match=r"^scan\.png: "):
        read_image(write(tmp_path, png_header(width, height)))


def test_harmless_bytes_between_a_jpegs_segments_are_passed_over_as_others_do(tmp_path):
    sound = encoded(GREY, "JPEG", quality=90)
    start = sound.index(b"\xff\xda")
    path = write(tmp_path, sound[:start] + b"\0\0\0" + sound[start:], "scan.jpg")
    np.testing.assert_array_equal(read_image(path), read_image(write(tmp_path, sound, "sound.jpg")))


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "scan.png")
    with pytest.raises(BadCase, match=r"^scan\.png: it is not a file; expected an image$"):
        read_image(tmp_path / "scan.png")


JPEG_LS_START = b"\xff\xd8\xff\xf7\0\x0b\x08\0\x08\0\x08\1\1\x11\0\xff\xda"
UNCOMPRESSED, JPEG_2000 = (struct.pack("<HHIHH", 259, 3, 1, code, 0) for code in (1, 34712))
"""Entries of a TIFF that name its compression."""


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.jpg", JPEG_LS_START, "JPEG"),
        ("a.tif", encoded(GREY, "TIFF").replace(UNCOMPRESSED, JPEG_2000), "TIFF"),
    ],
)
def test_a_kind_of_a_format_that_is_not_read_is_said_to_be_one(name, content, kind, tmp_path):
    with pytest.raises(
        BadCase, match=rf"it is {kind} of a kind that is not read, or damaged\); save it as PNG"
    ):
        read_image(write(tmp_path, content, name))


def test_a_palette_that_is_opaque_throughout_is_read_without_a_warning(tmp_path, recwarn):
    image = Image.new("P", (4, 4), 3)
    image.putpalette([grey for grey in range(256) for _ in range(3)])
    image.save(tmp_path / "a.png", transparency=b"\xff" * 256)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.full((4, 4), 3))
    assert not recwarn.list
