from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.imaging.geometry import (
    Warp,
    apply_warp,
    from_square,
    map_from_square,
    pad_to_square,
    to_square,
    warp_matrix,
)
from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import ReadOptions
from flames_cli.readers.otu2d import OTU2D

SHARED = Path(__file__).parents[4] / "shared"
GOLDEN = SHARED / "golden" / "otu_preprocess.npz"
OTU = SHARED / "data" / "otu2d"

SIDES = st.integers(1, 40)
RESIZES = st.sampled_from(["aligned", "paper"])
WARPS = st.builds(
    Warp,
    rotation_deg=st.floats(-180, 180),
    zoom=st.floats(0.7, 1.5),
    stretch=st.floats(0.8, 1.25),
    shift_x=st.floats(-0.2, 0.2),
    shift_y=st.floats(-0.2, 0.2),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
)


def noise(height, width):
    return derive_rng(0, "noise", height, width).random((height, width), np.float32)


def disc(size=64, x=26, y=36, radius=14):
    rows, columns = np.ogrid[:size, :size]
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def one_pixel(row, column, size=8):
    mask = np.zeros((size, size), np.uint8)
    mask[row, column] = 1
    return mask


def move(mask, warp):
    image, moved = apply_warp(mask.astype(np.float32), mask, warp)
    assert image.dtype == np.float32
    assert moved.dtype == np.uint8
    return image, moved


@pytest.mark.skipif(not (GOLDEN.exists() and OTU.exists()), reason="the shared OTU_2d images are not here")
@pytest.mark.parametrize("number", [1, 2, 37, 150, 300, 350])
def test_squares_match_the_authors(number):
    golden = np.load(GOLDEN)
    source = next(s for s in OTU2D.list_sources(OTU) if s.patient == str(number))
    (case,) = OTU2D.read_source(source, ReadOptions())
    image, mask = to_square(case.image, case.mask, 240, "paper")
    np.testing.assert_allclose(image / 255, golden[f"{number}_img"], rtol=0, atol=1 / 255 + 1e-6)
    np.testing.assert_array_equal(mask, golden[f"{number}_mask"])


def test_the_odd_pixel_goes_before():
    wide = pad_to_square(np.ones((2, 5), np.uint8))
    assert wide.sum(axis=1).tolist() == [0, 0, 5, 5, 0]
    tall = pad_to_square(np.ones((4, 3), np.uint8))
    assert tall.sum(axis=0).tolist() == [0, 4, 4, 4]


@settings(max_examples=50)
@given(hnp.arrays(np.uint16, st.tuples(SIDES, SIDES)))
def test_padding_keeps_every_pixel_and_adds_black(image):
    padded = pad_to_square(image)
    assert padded.shape == (max(image.shape),) * 2
    assert padded.dtype == image.dtype
    assert padded.sum(dtype=np.int64) == image.sum(dtype=np.int64)
    top, left = ((max(image.shape) - side + 1) // 2 for side in image.shape)
    np.testing.assert_array_equal(padded[top : top + image.shape[0], left : left + image.shape[1]], image)


@settings(max_examples=50)
@given(SIDES, SIDES, st.sampled_from([np.uint8, np.float32]), st.integers(16, 48))
def test_squares_have_the_size_asked_for_and_binary_masks(height, width, dtype, size):
    image, mask = (noise(height, width) * 200).astype(dtype), (noise(height, width) > 0.5).astype(np.uint8)
    before = image.copy(), mask.copy()
    square, square_mask = to_square(image, mask, size)
    assert square.shape == square_mask.shape == (size, size)
    assert (square.dtype, square_mask.dtype) == (dtype, np.uint8)
    assert set(np.unique(square_mask)) <= {0, 1}
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@settings(max_examples=50)
@given(SIDES, SIDES, st.sampled_from([np.uint8, np.float32]), st.integers(16, 48))
def test_colour_images_are_squared_channel_by_channel(height, width, dtype, size):
    image = (np.stack([noise(height, width)] * 3, axis=2) * (200, 100, 50)).astype(dtype)
    mask = (noise(height, width) > 0.5).astype(np.uint8)
    square, square_mask = to_square(image, mask, size)
    assert square.shape == (size, size, 3)
    assert square.dtype == dtype
    for channel in range(3):
        grey, grey_mask = to_square(image[..., channel], mask, size)
        np.testing.assert_allclose(square[..., channel], grey, rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(square_mask, grey_mask)


@settings(max_examples=50)
@given(SIDES, SIDES, st.integers(0, 60), RESIZES)
def test_masks_come_back_from_a_square_no_smaller_than_they_are(height, width, larger, mask_resize):
    mask = (noise(height, width) > 0.5).astype(np.uint8)
    _, square = to_square(mask, mask, max(height, width) + larger, mask_resize)
    back = from_square(square, height, width, mask_resize)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("mask_resize", ["aligned", "paper"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 48), (51, 64)])
def test_masks_come_back_from_a_smaller_square_where_they_were(shape, mask_resize):
    mask = disc()[: shape[0], : shape[1]]
    back = from_square(to_square(mask, mask, 40, mask_resize)[1], *shape, mask_resize)
    overlap = 2 * (back & mask).sum() / (back.sum() + mask.sum())
    centres = [np.argwhere(one).mean(axis=0) for one in (back, mask)]
    assert overlap > 0.95
    np.testing.assert_allclose(*centres, atol=0.8)


def centre_of(image):
    rows, columns = np.indices(image.shape)
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def mean_shift(height, width, size, mask_resize):
    """Mean distance of a resized mask from its resized image, over discs at many places: (down, right)."""
    rng, shifts = derive_rng(0, "discs", height, width, size), []
    for _ in range(24):
        (y, x), radius = rng.uniform(0.3, 0.7, 2) * (height, width), rng.uniform(0.06, 0.1) * width
        mask = disc(width, x, y, radius)[:height]
        image, resized = to_square(mask * np.float32(1), mask, size, mask_resize)
        shifts.append(centre_of(resized) - centre_of(np.clip(image, 0, 1)))
    return np.mean(shifts, axis=0)


@pytest.mark.parametrize("size", [96, 128, 240, 256, 320])
@pytest.mark.parametrize("shape", [(512, 512), (480, 480), (333, 500), (128, 128), (96, 120)])
def test_aligned_masks_lie_on_their_images_whatever_the_sizes(shape, size):
    np.testing.assert_allclose(mean_shift(*shape, size, "aligned"), 0, atol=0.1)


def test_masks_of_the_paper_lie_half_a_pixel_off_their_images():
    np.testing.assert_allclose(mean_shift(512, 512, 96, "paper"), 0.5, atol=0.1)


@settings(max_examples=50)
@given(st.integers(2, 200), st.integers(8, 64))
def test_aligned_masks_are_taken_from_the_nearest_pixel(side, size):
    rows = np.repeat(np.arange(side, dtype=np.uint8)[:, None], side, axis=1)
    taken = to_square(rows, rows, size)[1][:, 0]
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    assert np.abs(taken - centres).max() <= 0.5 + 1e-9


@settings(max_examples=50)
@given(st.integers(2, 100), st.integers(4, 32))
def test_mirrored_masks_are_resized_to_mirrored_masks(side, half_size):
    mask = (noise(side, side) > 0.5).astype(np.uint8)
    plain, mirrored = (to_square(one, one, 2 * half_size)[1] for one in (mask, mask[::-1, ::-1]))
    np.testing.assert_array_equal(mirrored, plain[::-1, ::-1])


@settings(max_examples=50)
@given(SIDES, SIDES, st.integers(1, 48))
def test_masks_of_the_paper_are_opencv_s(height, width, size):
    mask = (noise(height, width) > 0.5).astype(np.uint8)
    expected = cv2.resize(pad_to_square(mask), (size, size), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(to_square(mask, mask, size, "paper")[1], expected)


@settings(max_examples=50)
@given(SIDES, SIDES, st.integers(1, 48), RESIZES)
def test_a_square_that_is_all_tumour_fills_the_raw_image(height, width, size, mask_resize):
    full = np.ones((size, size), np.uint8)
    raw = from_square(full, height, width, mask_resize)
    np.testing.assert_array_equal(raw, np.ones((height, width), np.uint8))


@settings(max_examples=25)
@given(WARPS, SIDES, SIDES)
def test_colours_move_together(warp, height, width):
    image, mask = np.stack([noise(height, width)] * 3, axis=2), np.zeros((height, width), np.uint8)
    colour, _ = apply_warp(image, mask, warp)
    grey, _ = apply_warp(noise(height, width), mask, warp)
    for channel in range(3):
        np.testing.assert_allclose(colour[..., channel], grey, atol=1e-5)


def test_what_has_the_size_already_is_left_alone():
    image, mask = noise(24, 24), disc(24)
    square, square_mask = to_square(image, mask, 24)
    assert square is image
    assert square_mask is mask


def test_padding_to_the_size_does_not_resample():
    image, mask = to_square(noise(24, 10), np.ones((24, 10), np.uint8), 24)
    np.testing.assert_array_equal(image[:, 7:17], noise(24, 10))
    assert mask.sum() == 240


def test_turned_views_are_squared_like_copies():
    image, mask = np.rot90((noise(20, 30) * 255).astype(np.uint8)), np.rot90(np.ones((20, 30), np.uint8))
    for got, expected in zip(
        to_square(image, mask, 16), to_square(image.copy(), mask.copy(), 16), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_image_and_mask_of_different_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"image is \(4, 5\), its mask \(5, 4\)"):
        to_square(np.zeros((4, 5)), np.zeros((5, 4), np.uint8), 16)


@pytest.mark.parametrize("shape", [(16, 16), (15, 22)])
def test_the_identity_warp_returns_the_image(shape):
    image, mask = noise(*shape), (noise(*shape) > 0.5).astype(np.uint8)
    warped, warped_mask = apply_warp(image, mask, Warp())
    np.testing.assert_allclose(warped, image, atol=1e-6)
    np.testing.assert_array_equal(warped_mask, mask)


@settings(max_examples=50)
@given(WARPS, SIDES, SIDES)
def test_the_centre_moves_by_the_shift_alone(warp, height, width):
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = warp_matrix(warp, height, width)
    expected = centre + np.array([warp.shift_x * width, warp.shift_y * height])
    np.testing.assert_allclose(matrix[:, :2] @ centre + matrix[:, 2], expected, atol=1e-9)


@settings(max_examples=50)
@given(WARPS)
def test_area_grows_with_zoom_alone_and_each_flip_mirrors(warp):
    sign = -1 if warp.flip_x != warp.flip_y else 1
    assert np.linalg.det(warp_matrix(warp, 64, 64)[:, :2]) == pytest.approx(sign * warp.zoom**2)


def test_stretch_is_width_over_height():
    linear = warp_matrix(Warp(stretch=1.44), 64, 64)[:, :2]
    np.testing.assert_allclose(linear, [[1.2, 0], [0, 1 / 1.2]])


def test_a_warp_flips_then_scales_then_rotates():
    linear = warp_matrix(Warp(rotation_deg=90, zoom=2, stretch=4, flip_x=True), 64, 64)[:, :2]
    np.testing.assert_allclose(linear, [[0, 1], [4, 0]], atol=1e-12)


def test_positive_rotation_turns_counterclockwise_as_rot90_does():
    _, moved = move(one_pixel(3, 6, size=9), Warp(rotation_deg=90))
    np.testing.assert_array_equal(moved, np.rot90(one_pixel(3, 6, size=9)))


@pytest.mark.parametrize(
    ("flips", "axes"),
    [({"flip_x": True}, 1), ({"flip_y": True}, 0), ({"flip_x": True, "flip_y": True}, (0, 1))],
)
def test_a_flip_mirrors_and_twice_is_the_identity(flips, axes):
    image, mask = noise(16, 16), (noise(16, 16) > 0.5).astype(np.uint8)
    once = apply_warp(image, mask, Warp(**flips))
    np.testing.assert_allclose(once[0], np.flip(image, axes), atol=1e-6)
    np.testing.assert_array_equal(once[1], np.flip(mask, axes))
    twice = apply_warp(*once, Warp(**flips))
    np.testing.assert_allclose(twice[0], image, atol=1e-6)
    np.testing.assert_array_equal(twice[1], mask)


@pytest.mark.parametrize(
    ("shift", "row", "column"),
    [
        ({"shift_x": 0.25}, 3, 4),
        ({"shift_x": -0.25}, 3, 0),
        ({"shift_y": 0.5}, 7, 2),
        ({"shift_y": -0.25}, 1, 2),
    ],
)
def test_shifts_move_right_and_down(shift, row, column):
    image, mask = move(one_pixel(3, 2), Warp(**shift))
    np.testing.assert_array_equal(mask, one_pixel(row, column))
    np.testing.assert_allclose(image, one_pixel(row, column), atol=1e-6)


def test_pixels_that_leave_the_image_are_lost_and_black_enters():
    image, mask = move(np.ones((8, 8), np.uint8), Warp(shift_x=0.5))
    assert mask.sum(axis=0).tolist() == [0] * 4 + [8] * 4
    assert not image[:, :3].any()


@pytest.mark.parametrize("zoom", [1.25, 1.5, 2.0])
def test_zoom_above_1_enlarges_the_mask(zoom):
    mask = disc(radius=10, x=32, y=32)
    assert move(mask, Warp(zoom=zoom))[1].sum() == pytest.approx(zoom**2 * mask.sum(), rel=0.05)
    assert move(mask, Warp(zoom=1 / zoom))[1].sum() == pytest.approx(mask.sum() / zoom**2, rel=0.1)


@settings(max_examples=50)
@given(WARPS)
@example(Warp(rotation_deg=179.0, zoom=1.09375, stretch=0.80078125, shift_x=0.2))
def test_image_and_mask_move_together(warp):
    image, mask = move(disc(), warp)
    assert image.min() >= 0
    assert image.max() <= 1
    assert set(np.unique(mask)) <= {0, 1}
    kernel = np.ones((3, 3), np.uint8)
    # A disc that leaves the picture ends there: beyond the border is background too.
    inside = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    edge = cv2.dilate(mask, kernel) - inside
    assert not ((image > 0.5) != (mask > 0))[edge == 0].any()


def test_warped_masks_lie_on_their_warped_images():
    rng, shifts = derive_rng(0, "warps"), []
    for _ in range(100):
        mask = disc(96, *rng.uniform(35, 60, 2), rng.uniform(5, 12))
        angle, zoom, shift = rng.uniform(-180, 180), rng.uniform(0.8, 1.25), rng.uniform(-0.1, 0.1)
        image, moved = move(mask, Warp(rotation_deg=angle, zoom=zoom, shift_x=shift, flip_y=angle > 0))
        shifts.append(centre_of(moved) - centre_of(image))
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.05)


@given(SIDES, SIDES, RESIZES)
def test_a_map_of_the_same_side_comes_back_unchanged(height, width, resize):
    values = noise(height, width)
    square = np.zeros((max(height, width),) * 2, np.float32)
    padded = pad_to_square(values)
    square[:] = padded
    np.testing.assert_array_equal(map_from_square(square, height, width, resize), values)


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(2, 40), RESIZES)
@example(1, 36, 28, "paper")
def test_a_map_that_rises_evenly_comes_back_as_it_rises(height, width, size, resize):
    """A plane over the source has its own values at the places that the square was taken from."""
    side = max(height, width)
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    if resize == "paper" and side > size:
        # OpenCV's own places: where a product is whole, its rounding may end one below.
        centres = cv2.resize(
            np.arange(side, dtype=np.float64)[None], (size, 1), interpolation=cv2.INTER_NEAREST
        )[0]
    square = (2 * centres[:, None] + 3 * centres).astype(np.float32)
    back = map_from_square(square, height, width, resize)
    before = [-(-(side - n) // 2) for n in (height, width)]
    rows, columns = (
        np.clip(np.arange(n) + start, centres[0], centres[-1])
        for n, start in zip((height, width), before, strict=True)
    )
    np.testing.assert_allclose(back, 2 * rows[:, None] + 3 * columns, atol=2e-3)


@pytest.mark.parametrize("resize", ["aligned", "paper"])
@pytest.mark.parametrize(("height", "width", "size"), [(471, 562, 256), (512, 512, 240)])
def test_a_mask_comes_back_smoother_than_by_the_nearest_pixel(height, width, size, resize):
    rows, columns = np.ogrid[:height, :width]
    mask = ((rows - 0.4 * height) ** 2 + (columns - 0.6 * width) ** 2 <= (0.2 * width) ** 2).astype(np.uint8)
    _, square = to_square(mask, mask, size, resize)
    smooth = map_from_square(square.astype(np.float32), height, width, resize) > 0.5
    wrong, wrong_nearest = (
        np.count_nonzero(one != mask) for one in (smooth, from_square(square, height, width, resize))
    )
    assert wrong <= wrong_nearest
    assert wrong < 0.02 * mask.sum()
