import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flames_cli.core.imaging.lesions import LesionSize, measure_lesions


def drawn(*rows):
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)


def test_lesions_are_counted_and_the_smallest_is_measured():
    mask = drawn("110000", "110001", "000010", "000100", "000000")
    assert measure_lesions(mask) == LesionSize(area_px=7, n=2, smallest_px=3, smallest_box_px=9)


def test_pixels_that_touch_at_a_corner_are_one_lesion():
    mask = drawn("1000", "0100", "0001", "0001")
    assert measure_lesions(mask) == measure_lesions(np.rot90(mask)) == LesionSize(4, 2, 2, 2)


def test_of_lesions_of_one_area_that_of_the_smaller_box_is_measured():
    mask = drawn("100000", "010000", "001001", "000001", "000001")
    for turned in (mask, np.rot90(mask), np.flipud(mask), np.fliplr(mask)):
        assert measure_lesions(turned) == LesionSize(6, 2, 3, 3)


def test_holes_are_in_the_box_and_not_in_the_area():
    assert measure_lesions(drawn("111", "101", "111")) == LesionSize(8, 1, 8, 9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (0, 4)])
def test_an_empty_mask_has_no_lesion(shape):
    assert measure_lesions(np.zeros(shape, np.uint8)) == LesionSize(0, 0, 0, 0)


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_figures_agree_with_each_other_and_with_opencv(mask):
    size = measure_lesions(mask)
    assert size.area_px == mask.sum()
    assert size.n == cv2.connectedComponents(mask, connectivity=8)[0] - 1
    assert size.smallest_px * size.n <= size.area_px
    assert size.smallest_px <= size.smallest_box_px <= mask.size
    assert (size.n > 0) == (size.smallest_px > 0) == mask.any()
