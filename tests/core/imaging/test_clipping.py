import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.imaging.clipping import measure_clipping
from flames_cli.core.imaging.intensity import count_values
from flames_cli.core.imaging.quality import measure_intensity

IMAGE = np.array([[0, 0, 0, 0], [0, 100, 200, 300], [0, 400, 500, 600], [0, 700, 800, 900]], np.int16)
MASK = (IMAGE >= 700).astype(np.uint8)


def test_tissue_is_all_but_the_most_frequent_value_and_the_lowest():
    found = measure_clipping(IMAGE, MASK, 0.0, 450.0, 95.0)
    assert (found.tissue_px, found.visible_px, found.white_px) == (9, 9, 5)
    assert (found.lesion_px, found.lesion_white_px, found.lesion_black_px) == (3, 3, 0)
    assert found.lesion_white_px_of_foreground == 1
    assert found.tissue_range == pytest.approx((104.0, 896.0))
    assert found.lesion_range == pytest.approx((704.0, 896.0))


def test_background_may_be_in_the_middle_and_padding_below_it():
    image = IMAGE.astype(np.float32) / 450 - 1
    image[0, 0] = -9
    image[IMAGE == 0] = 0
    image[0, :2] = -9
    found = measure_clipping(image, MASK, 0.0, 0.5, 95.0)
    assert (found.tissue_px, found.black_px, found.white_px) == (9, 4, 3)


def test_noise_of_air_is_not_visible():
    image = np.where(IMAGE == 0, np.arange(16).reshape(4, 4), IMAGE)
    found = measure_clipping(image, MASK, 0.0, 850.0, 95.0)
    assert (found.tissue_px, found.visible_px, found.white_px) == (15, 9, 1)


def test_noise_just_below_the_window_is_not_black():
    image = IMAGE - np.int16(10)
    assert measure_clipping(image, MASK, 0.0, 800.0, 95.0).black_px == 0
    assert measure_clipping(image, MASK, 200.0, 800.0, 95.0).black_px == 1


def test_air_in_a_mask_is_no_lesion():
    image = np.array([[-1000, -990, -600, -170, 30, 60, 900]], np.int16)
    found = measure_clipping(image, np.ones(image.shape, np.uint8), -160.0, 240.0, 95.0)
    assert (found.lesion_px, found.lesion_black_px, found.lesion_white_px) == (5, 2, 1)


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_without_lesion_has_no_tissue(value):
    found = measure_clipping(np.full((3, 4), value, np.int16), np.zeros((3, 4), np.uint8), 0.0, 5.0, 95.0)
    assert (found.tissue_px, found.white_px, found.lesion_px) == (0, 0, 0)
    assert found.tissue_range == found.lesion_range == (0.0, 5.0)


@given(
    hnp.arrays(np.int16, (4, 5), elements=st.integers(-50, 200)), st.integers(-20, 20), st.integers(30, 90)
)
def test_colours_count_as_their_brightest_channel_and_counts_are_parts_of_each_other(image, low, high):
    mask = (image > 60).astype(np.uint8)
    found = measure_clipping(image, mask, float(low), float(high), 95.0)
    assert 0 <= found.white_px <= found.visible_px <= found.tissue_px <= image.size
    assert found.black_px + found.visible_px <= found.tissue_px
    assert found.lesion_white_px + found.lesion_black_px <= found.lesion_px <= mask.sum()
    assert measure_clipping(np.stack([image] * 3, axis=2), mask, float(low), float(high), 95.0) == found


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
def test_counted_values_change_nothing(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    counted = count_values(image)
    assert measure_clipping(image, MASK, 0.0, 1.0, 95.0, counted) == measure_clipping(
        image, MASK, 0.0, 1.0, 95.0
    )
    assert measure_intensity(image, 0.0, 1.0, counted) == measure_intensity(image, 0.0, 1.0)
