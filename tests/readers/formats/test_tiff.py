"""TIFF files that tests/support writes byte by byte are read as any viewer shows them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.images import decode_image, read_deep_image, read_image
from flames_cli.readers.formats.masks import MaskRule, read_mask
from flames_cli.readers.formats.tiff_directory import count_pages, start_at_page
from tests.support.phantoms.tiff import Tiff, tiff_bytes

SHAPE = (23, 37)


def draw(dtype: type, *more: int) -> np.ndarray:
    size = (*SHAPE, *more)
    raw = derive_rng(0, "tiff", *more).bytes(int(np.prod(size)) * np.dtype(dtype).itemsize)
    return np.frombuffer(raw, dtype).reshape(size).copy()


def write(folder: Path, pixels: np.ndarray, choices: Tiff | None = None) -> Path:
    path = folder / "a.tif"
    path.write_bytes(tiff_bytes(pixels, choices))
    return path


def luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114])


STORED = [
    Tiff(),
    Tiff(order=">"),
    Tiff(is_big=True),
    Tiff(is_big=True, order=">"),
    Tiff(compression=5),
    Tiff(compression=5, has_predictor=True, order=">"),
    Tiff(compression=8, has_predictor=True, strip_rows=100),
    Tiff(compression=32773),
    Tiff(tile=(16, 16)),
    Tiff(tile=(16, 32), compression=8, has_predictor=True),
    Tiff(tile=(16, 16), compression=5, has_predictor=True, order=">"),
]
"""Ways to store the same samples."""
AS_STORED = pytest.mark.parametrize("stored", STORED, ids=str)


@AS_STORED
@pytest.mark.parametrize("is_planar", [False, True])
def test_three_samples_that_are_declared_as_grey_are_three_colours(stored, is_planar, tmp_path):
    """CVC-ClinicDB is distributed like this."""
    colours = draw(np.uint8, 3)
    path = write(tmp_path, colours, replace(stored, meaning=1, is_planar=is_planar))
    np.testing.assert_array_equal(read_image(path, colour=True), colours)
    np.testing.assert_allclose(read_image(path), luma(colours), atol=0.51)


def test_jpeg_inside_a_tiff_may_have_three_samples_that_are_declared_as_grey(tmp_path):
    colours = np.repeat(np.repeat(draw(np.uint8, 3), 8, axis=0), 8, axis=1)
    path = write(tmp_path, colours, Tiff(meaning=1, compression=7, strip_rows=1000))
    np.testing.assert_allclose(read_image(path, colour=True).astype(int), colours, atol=4)


@AS_STORED
def test_white_is_zero_is_inverted_at_sixteen_bits_as_at_eight(stored, tmp_path):
    deep, shallow = draw(np.uint16), draw(np.uint8)
    np.testing.assert_array_equal(
        read_deep_image(write(tmp_path, deep, replace(stored, meaning=0))), 65535 - deep
    )
    np.testing.assert_array_equal(
        read_deep_image(write(tmp_path, shallow, replace(stored, meaning=0))), 255 - shallow
    )


@AS_STORED
@pytest.mark.parametrize("dtype", [np.int16, np.int8])
def test_signed_values_stay_negative(stored, dtype, tmp_path):
    signed = draw(dtype)
    read = read_deep_image(write(tmp_path, signed, replace(stored, sample_format=2)))
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, signed)


def test_signed_values_are_inverted_where_white_is_zero(tmp_path):
    signed = np.array([[-32768, -1, 0, 32767]], np.int16)
    read = read_deep_image(write(tmp_path, signed, Tiff(sample_format=2, meaning=0)))
    assert read.tolist() == [[32767, 0, -1, -32768]]


@AS_STORED
@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("meaning", [1, 2])
def test_forty_eight_bits_of_colour_keep_their_depth(stored, is_planar, meaning, tmp_path):
    colours = draw(np.uint16, 3)
    path = write(tmp_path, colours, replace(stored, meaning=meaning, is_planar=is_planar))
    grey = read_deep_image(path)
    assert grey.dtype == np.uint16
    np.testing.assert_allclose(grey, luma(colours), atol=2)
    np.testing.assert_array_equal(read_deep_image(path, colour=True), colours)
    np.testing.assert_array_equal(read_image(path), grey.astype(np.uint32) * 255 // 65535)


@AS_STORED
@pytest.mark.parametrize("meaning", [0, 1])
def test_twelve_bits_are_unpacked(stored, meaning, tmp_path):
    values = draw(np.uint16) >> 4
    choices = replace(stored, bits=12, meaning=meaning, has_predictor=False)
    read = read_deep_image(write(tmp_path, values, choices))
    np.testing.assert_array_equal(read, values if meaning else 4095 - values)


@AS_STORED
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_of_eight_and_sixteen_bits_are_joined(stored, dtype, tmp_path):
    colours = draw(dtype, 3)
    path = write(tmp_path, colours, replace(stored, meaning=2, is_planar=True))
    np.testing.assert_array_equal(decode_image(path, colour=True), colours)


@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize(("meaning", "samples"), [(1, 2), (2, 4)])
@pytest.mark.parametrize("kind", [1, 2])
def test_a_deep_alpha_channel_must_be_opaque(is_planar, meaning, samples, kind, tmp_path):
    pixels = draw(np.uint16, samples)
    choices = Tiff(meaning=meaning, extra=(kind,), is_planar=is_planar)
    with pytest.raises(BadCase, match=r"^a\.tif: it is transparent in parts"):
        read_deep_image(write(tmp_path, pixels, choices))
    pixels[..., -1] = 65535
    read = read_deep_image(write(tmp_path, pixels, choices))
    np.testing.assert_allclose(read, pixels[..., 0] if samples == 2 else luma(pixels[..., :3]), atol=2)


def test_a_fourth_sample_without_meaning_is_left_out(tmp_path):
    pixels = draw(np.uint16, 4)
    read = read_deep_image(write(tmp_path, pixels, Tiff(meaning=2, extra=(0,))), colour=True)
    np.testing.assert_array_equal(read, pixels[..., :3])


@pytest.mark.parametrize(
    ("pixels", "choices", "message"),
    [
        (draw(np.uint16, 2), Tiff(), "it has 2 samples per pixel, expected grey or RGB"),
        (draw(np.uint16, 3), Tiff(meaning=0), "it has 3 samples per pixel"),
        (draw(np.uint8, 4), Tiff(extra=(0, 0, 2)), "it has 4 samples per pixel"),
        (draw(np.uint16, 5), Tiff(meaning=2, extra=(0, 0)), "it has 5 samples per pixel"),
        (draw(np.int16, 3), Tiff(meaning=2, sample_format=2), "its colours are signed numbers"),
        (draw(np.uint32), Tiff(), "its pixels are numbers of 32 bits"),
        (draw(np.int32), Tiff(sample_format=2), "its pixels are numbers of 32 bits"),
        (draw(np.uint32), Tiff(sample_format=3), "its pixels are numbers of 32 bits with fractions"),
        (draw(np.uint16), Tiff(sample_format=3), "its pixels are numbers of 16 bits with fractions"),
        (draw(np.uint64), Tiff(), r"its samples have \[64\] bits, expected 8 or 16"),
        (draw(np.uint16), Tiff(bits=10), r"its samples have \[10\] bits"),
        (draw(np.uint16), Tiff(pages=3), "it contains 3 pages, expected one image"),
        (draw(np.uint8), Tiff(pages=2, is_big=True), "it contains 2 pages, expected one image"),
    ],
)
def test_samples_that_could_be_read_in_two_ways_are_rejected(pixels, choices, message, tmp_path):
    with pytest.raises(BadCase, match=rf"^a\.tif: {message}"):
        read_deep_image(write(tmp_path, pixels, choices))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "low", "kind"), [(np.uint32, 0, 1), (np.int32, -900, 2)])
def test_integers_of_thirty_two_bits_are_read_where_sixteen_are_enough(order, dtype, low, kind, tmp_path):
    values = derive_rng(1, "tiff").integers(low, 3000, SHAPE).astype(dtype)
    read = read_deep_image(write(tmp_path, values, Tiff(order=order, sample_format=kind)))
    assert read.dtype == (np.int16 if low else np.uint16)
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_and_shallow_images_are_turned_alike(orientation, tmp_path):
    shallow = draw(np.uint8)
    deep = shallow.astype(np.uint16) * 257
    choices = Tiff(orientation=orientation)
    turned = read_deep_image(write(tmp_path, shallow, choices))
    deeply_turned = read_deep_image(write(tmp_path, deep, choices))
    np.testing.assert_array_equal(deeply_turned, turned.astype(np.uint16) * 257)
    inverted = replace(choices, meaning=0)
    np.testing.assert_array_equal(read_deep_image(write(tmp_path, 65535 - deep, inverted)) // 257, turned)


@AS_STORED
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("meaning", [0, 1])
def test_a_mask_is_read_as_it_is_shown(stored, dtype, meaning, tmp_path):
    tumour = np.zeros(SHAPE, bool)
    tumour[5:9, 20:30] = True
    shown = (tumour * np.iinfo(dtype).max).astype(dtype)
    path = write(tmp_path, shown if meaning else ~shown, replace(stored, meaning=meaning))
    np.testing.assert_array_equal(read_mask(path, SHAPE, MaskRule()).tumour, tumour)


@pytest.mark.parametrize("is_planar", [False, True])
@pytest.mark.parametrize("meaning", [1, 2])
def test_a_colour_mask_keeps_its_blue_channel(is_planar, meaning, tmp_path):
    tumour = np.zeros(SHAPE, bool)
    tumour[5:9, 20:30] = True
    blue = tumour[..., None] * np.array([0, 0, 255], np.uint8)
    path = write(tmp_path, blue, Tiff(meaning=meaning, is_planar=is_planar))
    np.testing.assert_array_equal(read_mask(path, SHAPE, MaskRule()).tumour, tumour)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_mask_of_signed_numbers_keeps_them(dtype, order, tmp_path):
    labels = np.zeros(SHAPE, dtype)
    labels[5:9, 20:30] = 1
    choices = Tiff(sample_format=2, order=order)
    path = write(tmp_path, labels, choices)
    np.testing.assert_array_equal(read_mask(path, SHAPE, MaskRule()).tumour, labels > 0)
    labels[0, 0] = -1
    with pytest.raises(BadCase, match="-1"):
        read_mask(write(tmp_path, labels, choices), SHAPE, MaskRule())


def test_a_public_reader_does_not_scale_signed_values(tmp_path):
    with pytest.raises(BadCase, match=r"^a\.tif: its pixels are signed numbers"):
        read_image(write(tmp_path, draw(np.int16), Tiff(sample_format=2)))


@settings(max_examples=60)
@given(cut=st.integers(0, 2200), flip=st.integers(0, 2200), mask=st.integers(1, 255))
def test_damaged_files_end_in_a_case_that_is_named(tmp_path_factory, cut, flip, mask):
    folder = tmp_path_factory.mktemp("damaged")
    sound = tiff_bytes(draw(np.uint16), Tiff(meaning=0, compression=8))
    flip %= len(sound)
    for content in (sound[:cut], sound[:flip] + bytes([sound[flip] ^ mask]) + sound[flip + 1 :]):
        path = folder / "a.tif"
        path.write_bytes(content)
        try:
            dtype = read_deep_image(path).dtype
        except BadCase as error:
            dtype = str(error)
        assert dtype in (np.uint8, np.uint16, np.int16) or dtype.startswith("a.tif: ")


def test_directories_that_follow_each_other_in_a_circle_are_counted_up_to_a_limit():
    made = bytearray(tiff_bytes(draw(np.uint8), Tiff(pages=2)))
    first = int.from_bytes(made[4:8], "little")
    count = int.from_bytes(made[first : first + 2], "little")
    made[first + 2 + 12 * count : first + 6 + 12 * count] = made[4:8]
    assert count_pages(bytes(made)) == 1000


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_page_is_read_by_its_number(page, tmp_path):
    path = write(tmp_path, draw(np.uint16), Tiff(pages=3, is_big=True, order=">"))
    np.testing.assert_array_equal(read_deep_image(path, page=page), draw(np.uint16))


@pytest.mark.parametrize(("pages", "page"), [(1, 2), (3, 4)])
def test_a_page_that_does_not_exist_is_rejected(pages, page, tmp_path):
    path = write(tmp_path, draw(np.uint8), Tiff(pages=pages))
    with pytest.raises(
        BadCase, match=f"frame {page} does not exist, the file has {pages}; correct the column"
    ):
        read_deep_image(path, page=page)
    with pytest.raises(ValueError, match=f"page {page} does not exist"):
        start_at_page(path.read_bytes(), page)
