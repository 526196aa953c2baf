import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.imaging.components import label_components
from flames_cli.core.imaging.diameters import box_of, largest_diameter

MASKS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7), elements=st.integers(0, 1)
)


def brute(mask, spacing):
    """Largest distance between two corners of the voxels of each part, by all pairs."""
    n, labels = label_components(mask)
    found = []
    for part in range(1, n + 1):
        voxels = np.argwhere(labels == part)
        corners = np.unique(
            np.vstack([voxels + np.array(step) for step in np.ndindex((2,) * mask.ndim)]), axis=0
        ) * np.asarray(spacing)
        found.append(float(np.sqrt(((corners[:, None] - corners) ** 2).sum(-1)).max()))
    return found


@settings(max_examples=60, deadline=None)
@given(MASKS, st.tuples(*[st.floats(0.2, 5)] * 3))
def test_the_diameter_is_the_longest_of_all_pairs_of_corners_of_one_part(mask, spacing):
    n, found = largest_diameter(mask, spacing[: mask.ndim])
    expected = brute(mask, spacing[: mask.ndim])
    assert n == len(expected)
    assert found == pytest.approx(max(expected, default=0.0), rel=1e-9)


@pytest.mark.parametrize(("shape", "expected"), [((1, 1), 2**0.5), ((1, 10), 101**0.5), ((3, 4), 5)])
def test_pixels_are_squares_not_points(shape, expected):
    mask = np.zeros((20, 20), np.uint8)
    mask[4 : 4 + shape[0], 5 : 5 + shape[1]] = 1
    assert largest_diameter(mask, (1, 1)) == (1, pytest.approx(expected))


def test_thick_slices_count_with_their_thickness():
    mask = np.zeros((6, 8, 8), np.uint8)
    mask[1:5, 3, 3] = 1
    assert largest_diameter(mask, (5.0, 0.5, 0.5))[1] == pytest.approx((20**2 + 0.5**2 + 0.5**2) ** 0.5)


def test_an_empty_mask_has_no_lesion():
    assert largest_diameter(np.zeros((4, 5, 6), np.uint8), (1, 1, 1)) == (0, 0.0)
    assert box_of(np.zeros((4, 5), np.uint8)) == (slice(0, 0), slice(0, 0))


@given(MASKS)
def test_the_box_holds_all_voxels_and_no_empty_border(mask):
    box = box_of(mask)
    assert mask[box].sum() == mask.sum()
    if mask.any():
        inside = mask[box]
        for axis in range(mask.ndim):
            turned = np.moveaxis(inside, axis, 0)
            assert turned[0].any()
            assert turned[-1].any()
