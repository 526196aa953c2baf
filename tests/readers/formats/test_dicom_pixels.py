from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_pixels import read_frames
from tests.support.phantoms.dicom_bytes import image, write

SHAPE = (6, 5)


def save(
    path: Path, words: np.ndarray, stored: int, high: int, signed: bool = False, **others: object
) -> Path:
    content = words.astype("<i8").astype("<u2").tobytes()
    elements = image("MR", SHAPE, content, 16, stored=stored, high=high, **others)
    elements[0x0028, 0x0103] = ("US", int(signed))
    return write(path, elements)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=st.integers(1, 16), low=st.integers(0, 15), signed=st.booleans(), sign_repeated=st.booleans())
def test_the_bits_of_the_header_are_the_value(stored, low, signed, sign_repeated, tmp_path):
    low = min(low, 16 - stored)
    ends = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    values = derive_rng(0, "bits", stored).integers(*ends, SHAPE)
    used = ((1 << stored) - 1) << low
    words = (values << low) if sign_repeated else (values << low) & used
    path = save(tmp_path / "a.dcm", words, stored, low + stored - 1, signed)
    np.testing.assert_array_equal(read_frames(path)[0], values)


def draw(high: int = 4096) -> np.ndarray:
    return derive_rng(0, "words").integers(0, high, SHAPE)


def overlay(position: int) -> dict:
    return {(0x6000, 0x0100): ("US", 16), (0x6000, 0x0102): ("US", position)}


@pytest.mark.parametrize(("low", "position"), [(0, 12), (0, 15), (4, 0)])
def test_an_overlay_in_unused_bits_is_no_part_of_the_value(low, position, tmp_path):
    words = (draw() << low) | ((draw() % 2) << position)
    elements = image("MR", SHAPE, words.astype("<u2").tobytes(), 16, stored=12, high=11 + low)
    path = write(tmp_path / "a.dcm", {**elements, **overlay(position)})
    np.testing.assert_array_equal(read_frames(path)[0], draw())


@pytest.mark.parametrize(("low", "position"), [(0, 12), (4, 0)])
def test_unused_bits_that_nothing_explains_are_rejected(low, position, tmp_path):
    words = draw() << low
    words[0, 0] |= 1 << position
    path = save(tmp_path / "a.dcm", words, 12, 11 + low)
    with pytest.raises(
        BadCase, match=rf"a\.dcm: 1 pixels use bits beyond its BitsStored of 12 \(HighBit {11 + low}"
    ):
        read_frames(path)


@pytest.mark.parametrize(("stored", "high"), [(12, 10), (12, 16), (17, 16)])
def test_bits_that_do_not_exist_are_rejected(stored, high, tmp_path):
    with pytest.raises(
        BadCase, match=f"its BitsStored is {stored} and its HighBit {high} of 16, expected HighBit"
    ):
        read_frames(save(tmp_path / "a.dcm", draw(), stored, high))


def test_dark_padding_is_unchanged(tmp_path):
    words = draw() - 1000
    words[0] = -2000
    path = save(tmp_path / "a.dcm", words, 16, 15, signed=True, padding=65536 - 2000)
    np.testing.assert_array_equal(read_frames(path)[0], words)


def test_padding_that_would_be_the_brightest_becomes_the_darkest(tmp_path):
    words = draw() + 5
    words[0] = 63536  # -2000 in a file that says that it has no sign
    path = save(tmp_path / "a.dcm", words, 16, 15, padding=63536)
    values = read_frames(path)[0]
    np.testing.assert_array_equal(values[1:], words[1:])
    assert (values[0] == words[1:].min()).all()
    np.testing.assert_array_equal(read_frames(path, labels=True)[0], words)


def test_padding_beyond_the_stored_bits_is_padding(tmp_path):
    words = draw() + 0
    words[0] = 63536
    values = read_frames(save(tmp_path / "a.dcm", words, 12, 11, padding=63536))[0]
    assert (values[0] == words[1:].min()).all()


def test_black_padding_of_an_inverted_image_stays_black(tmp_path):
    words = draw(4000) + 50
    words[0] = 0
    path = save(tmp_path / "a.dcm", words, 12, 11, padding=0, photometric="MONOCHROME1")
    values = read_frames(path)[0]
    assert (values[0] == words[1:].max()).all()
