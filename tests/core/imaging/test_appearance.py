import numpy as np

from flames_cli.core.imaging.appearance import Appearance, describe_appearance


def test_the_numbers_are_those_of_the_image():
    image = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    assert describe_appearance(image) == Appearance(0.5, 0.5, 0.5)
    assert describe_appearance(np.stack([image] * 3, axis=2)) == Appearance(0.5, 0.5, 0.5)
