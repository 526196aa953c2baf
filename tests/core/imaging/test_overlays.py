import numpy as np
import pytest

from flames_cli.core.imaging.overlays import (
    PREDICTION,
    SMALLEST,
    TILE,
    TRUTH,
    Layers,
    draw_montage,
    draw_overlay,
)


def disc(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - row) ** 2 + (columns - column) ** 2 <= radius**2).astype(np.uint8)


def test_a_large_image_keeps_its_size_and_its_pixels_outside_the_mask():
    image = np.random.default_rng(0).integers(0, 255, (600, 700), dtype=np.uint8)
    drawn = draw_overlay(Layers(image, disc(image.shape, 200, 300, 50)))
    assert drawn.shape == (600, 700, 3)
    np.testing.assert_array_equal(drawn[400:], np.dstack([image[400:]] * 3))


def test_the_mask_is_tinted_and_outlined_where_it_is():
    image = np.zeros((600, 600), np.uint8)
    drawn = draw_overlay(Layers(image, disc(image.shape, 200, 300, 50))).astype(int)
    np.testing.assert_allclose(drawn[200, 300], np.array(PREDICTION) * 0.3, atol=1)
    line = (np.abs(drawn[200] - PREDICTION) < 60).all(axis=1).nonzero()[0]
    assert (line.min(), line.max()) == (250, 350)
    assert not ((line > 260) & (line < 340)).any()


def test_the_outline_of_the_truth_has_its_own_colour():
    image = np.zeros((600, 600), np.uint8)
    layers = Layers(image, np.zeros_like(image), disc(image.shape, 100, 100, 40))
    drawn = draw_overlay(layers).astype(int)
    line = (np.abs(drawn[100] - TRUTH) < 60).all(axis=1).nonzero()[0]
    assert (line.min(), line.max()) == (60, 140)
    assert (drawn[100, 100] == 0).all()


@pytest.mark.parametrize(
    ("pixel", "shape"), [((1, 1), (256, 512)), ((2, 1), (512, 512)), ((float("nan"), 1), (256, 512))]
)
def test_small_images_are_enlarged_with_square_pixels(pixel, shape):
    drawn = draw_overlay(Layers(np.zeros((20, 40), np.uint8), np.zeros((20, 40), np.uint8), pixel=pixel))
    assert drawn.shape == (*shape, 3)
    assert max(drawn.shape) == SMALLEST


def test_colours_stay():
    image = np.zeros((600, 600, 3), np.uint8)
    image[..., 0] = 200
    drawn = draw_overlay(Layers(image, np.zeros((600, 600), np.uint8)))
    np.testing.assert_array_equal(drawn, image)


@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_a_montage_has_a_tile_for_each_image(n):
    tiles = [
        Layers(np.full((30, 40), 9 * (number + 1), np.uint8), np.zeros((30, 40), np.uint8))
        for number in range(n)
    ]
    drawn = draw_montage(tiles)
    columns = drawn.shape[1] // TILE
    seen = {int(value) for value in np.unique(drawn[..., 0])} - {0}
    assert seen == {9 * (number + 1) for number in range(n)}
    assert columns * (drawn.shape[0] // 192) >= n
