import base64

import cv2
import numpy as np
import pytest

from flames_cli.report.pictures import Picture


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 3)])
def test_a_picture_contains_its_pixels_and_the_outline_of_its_mask(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:7] = 1
    picture = Picture(image, mask, "a <name>", "3 %")
    encoded = np.frombuffer(base64.b64decode(picture.source.partition("base64,")[2]), np.uint8)
    stored = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored if len(shape) == 2 else stored[..., ::-1], image)
    assert picture.outline == "M3.5,2.5 3.5,4.5 6.5,4.5 6.5,2.5Z"
    assert picture.side == 8


def test_a_picture_without_a_lesion_has_no_outline():
    assert Picture(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), "", "").outline == ""
