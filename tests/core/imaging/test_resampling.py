import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.imaging.resampling import TAPS, _lanczos_weights, resample_padded
from flames_cli.core.rng import derive_rng

SIDES = st.integers(2, 60)


def padded(image: np.ndarray, side: int, top: int, left: int) -> np.ndarray:
    bottom, right = side - top - image.shape[0], side - left - image.shape[1]
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)


@given(SIDES, SIDES, st.integers(2, 40), st.sampled_from([(), (3,)]), st.integers(0, 9))
def test_it_is_what_opencv_makes_of_the_padded_image(height, width, size, channels, seed):
    image = derive_rng(seed).integers(0, 256, (height, width, *channels)).astype(np.uint8)
    side = max(height, width)
    top, left = (side - height + 1) // 2, (side - width + 1) // 2
    theirs = cv2.resize(
        padded(image.astype(np.float32), side, top, left), (size, size), interpolation=cv2.INTER_LANCZOS4
    )
    ours = resample_padded(image, side, top, left, size)
    assert ours.dtype == np.float32
    assert ours.shape == (size, size, *channels)
    # OpenCV makes its weights in float32; of 255 this is a twentieth of a grey level.
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_the_image_handed_in_is_not_changed():
    image = np.full((4, 6), 7, np.uint8)
    resample_padded(image, 6, 1, 0, 3)
    assert (image == 7).all()


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.999])
def test_weights_add_up_to_one_and_peak_at_the_nearest_pixel(offset):
    (weights,) = _lanczos_weights(np.array([offset]))
    assert weights.sum() == pytest.approx(1)
    assert np.argmax(weights) in {TAPS // 2 - 1 + round(offset), TAPS // 2 - 1}


def test_a_pixel_on_the_grid_is_itself():
    (weights,) = _lanczos_weights(np.array([0.0]))
    np.testing.assert_allclose(weights, np.eye(TAPS)[TAPS // 2 - 1], atol=1e-12)
