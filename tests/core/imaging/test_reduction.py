import numpy as np
import pytest
from PIL import Image

from flames_cli.core.imaging.reduction import halve, reduce_by_lanczos
from flames_cli.core.rng import derive_rng


def noise(shape):
    return derive_rng(0, f"noise {shape}").integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(8, 12), (7, 12), (8, 11), (3, 5), (1, 2), (534, 959)])
def test_halves_are_those_of_pillow(shape):
    picture = noise(shape)
    np.testing.assert_array_equal(halve(picture), np.asarray(Image.fromarray(picture).reduce(2)))


@pytest.mark.parametrize("shape", [(267, 479), (192, 192), (64, 300), (64, 64), (30, 40), (1, 9), (401, 777)])
@pytest.mark.parametrize("kind", ["noise", "black and white"])
def test_a_wide_picture_is_reduced_to_the_pixels_of_pillow(shape, kind):
    picture = noise(shape) if kind == "noise" else np.where(noise(shape) > 127, 255, 0).astype(np.uint8)
    expected = Image.fromarray(picture).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(reduce_by_lanczos(picture, 64), np.asarray(expected))
