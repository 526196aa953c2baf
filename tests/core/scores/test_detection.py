import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.scores.detection import LesionCounts, count_lesions, pool_counts

TRUTH = np.array(
    [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
    ]
)
"""Three lesions: pixels that touch at a corner belong together."""
PRED = np.array(
    [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1],
    ]
)
EMPTY = np.zeros((5, 5), np.uint8)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


def brute_counts(pred, target):
    """By scipy's labels, lesion by lesion."""
    eight = np.ones((3, 3))
    lesions, n = label(target, eight)
    parts, n_predicted = label(pred, eight)
    found = sum(bool((pred & (lesions == number)).any()) for number in range(1, n + 1))
    right = sum(bool((target & (parts == number)).any()) for number in range(1, n_predicted + 1))
    return LesionCounts(n, found, n_predicted, right)


def test_lesions_by_hand():
    counts = count_lesions(PRED, TRUTH)
    assert counts == LesionCounts(n=3, found=1, n_predicted=2, n_right=1)
    assert counts.recall() == pytest.approx(1 / 3)
    assert counts.precision() == 0.5


@given(PAIRS)
def test_every_lesion_that_shares_a_pixel_is_found(pair):
    pred, target = pair
    assert count_lesions(pred, target) == brute_counts(pred, target)


@given(PAIRS)
def test_truth_and_prediction_change_places(pair):
    forth, back = count_lesions(*pair), count_lesions(*pair[::-1])
    assert (forth.n, forth.found) == (back.n_predicted, back.n_right)
    assert (forth.n_predicted, forth.n_right) == (back.n, back.found)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1)))
def test_lesions_are_those_of_preprocessing(mask):
    assert count_lesions(mask, mask).n == measure_lesions(mask).n


def test_one_part_may_find_two_lesions():
    target = np.array([[1, 0, 1]])
    assert count_lesions(np.ones((1, 3), bool), target) == LesionCounts(2, 2, 1, 1)
    assert count_lesions(target, np.ones((1, 3), bool)) == LesionCounts(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("pred", "target", "recall", "precision"),
    [
        (EMPTY, EMPTY, math.nan, math.nan),
        (PRED, EMPTY, math.nan, 0.0),
        (EMPTY, TRUTH, 0.0, math.nan),
        (TRUTH, TRUTH, 1.0, 1.0),
    ],
)
def test_a_share_of_nothing_is_not_a_number(pred, target, recall, precision):
    counts = count_lesions(pred, target)
    assert counts.recall() == pytest.approx(recall, nan_ok=True)
    assert counts.precision() == pytest.approx(precision, nan_ok=True)


def test_counts_are_pooled_before_any_ratio():
    pooled = pool_counts([LesionCounts(1, 1, 1, 1), LesionCounts(9, 0, 3, 0), LesionCounts()])
    assert pooled == LesionCounts(10, 1, 4, 1)
    assert pooled.recall() == 0.1  # and not the mean of 1 and 0
    assert pool_counts([]) == LesionCounts()


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (PRED[None], TRUTH[None], "one case at a time"),
        (PRED[:4], TRUTH, "two H×W masks of one shape"),
        (PRED * 255, TRUTH, "got the value 255 in the prediction"),
        (PRED, TRUTH * 0.5, "got the value 0.5 in the target"),
    ],
)
def test_what_is_no_pair_of_masks_is_refused(pred, target, message):
    with pytest.raises(ValueError, match=message):
        count_lesions(pred, target)


def test_masks_are_left_as_they_are():
    pred, target = PRED.copy(), TRUTH[::-1]
    before = target.copy()
    count_lesions(pred, target)
    np.testing.assert_array_equal(pred, PRED)
    np.testing.assert_array_equal(target, before)
