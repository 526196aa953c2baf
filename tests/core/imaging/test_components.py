import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from flames_cli.core.imaging.components import label_components, largest_component

MASKS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
    elements=st.integers(0, 1),
)


@given(MASKS)
def test_parts_are_those_of_scipy_with_all_neighbours(mask):
    expected, count = label(mask, np.ones((3,) * mask.ndim))
    n, labels = label_components(mask)
    assert n == count
    pairs = set(zip(labels.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len({ours for ours, _ in pairs}) == len({theirs for _, theirs in pairs})


@given(MASKS)
def test_the_largest_part_stays(mask):
    kept = largest_component(mask)
    n, labels = label_components(mask)
    sizes = [int((labels == part).sum()) for part in range(1, n + 1)]
    assert kept.sum() == max(sizes, default=0)
    assert label_components(kept)[0] == min(n, 1)
    assert not (kept & ~mask & 1).any()


@pytest.mark.parametrize("n_axes", [2, 3])
def test_of_equal_parts_the_first_stays(n_axes):
    mask = np.zeros((5,) * n_axes, np.uint8)
    mask[(0,) * n_axes] = mask[(4,) * n_axes] = 1
    kept = largest_component(mask)
    assert np.argwhere(kept).tolist() == [[0] * n_axes]


def test_parts_that_touch_at_a_corner_are_one():
    assert label_components(np.eye(4, dtype=np.uint8))[0] == 1
    corner = np.zeros((2, 2, 2), np.uint8)
    corner[0, 0, 0] = corner[1, 1, 1] = 1
    assert label_components(corner)[0] == 1
