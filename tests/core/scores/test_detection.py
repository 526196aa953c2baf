import json
import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label

from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.scores.detection import (
    LesionCounts,
    LesionMatches,
    count_lesions,
    match_lesions,
    pool_counts,
)

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
    """Count the lesions by scipy's labels, lesion by lesion."""
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
def test_anything_but_a_pair_of_masks_is_rejected(pred, target, message):
    with pytest.raises(ValueError, match=message):
        count_lesions(pred, target)


def test_masks_are_left_as_they_are():
    pred, target = PRED.copy(), TRUTH[::-1]
    before = target.copy()
    count_lesions(pred, target)
    np.testing.assert_array_equal(pred, PRED)
    np.testing.assert_array_equal(target, before)


PANOPTICA = json.loads((Path(__file__).parent / "golden" / "panoptica.json").read_text("utf-8"))
VOLUMES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
BLOCK = np.zeros((6, 6), bool)
BLOCK[1:4, 1:4] = True


def unpack(bits, shape):
    flat = np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8), count=int(np.prod(shape)))
    return flat.reshape(shape)


def best_pairing(pred, target, min_iou):
    """Return the numbers of matches of those pairings that have the largest sum of IoU, by trying all."""
    structure = np.ones((3,) * pred.ndim)
    (parts, n), (lesions, m) = label(pred, structure), label(target, structure)
    ious = np.zeros((n, m))
    for i, j in np.ndindex(n, m):
        one, other = parts == i + 1, lesions == j + 1
        ious[i, j] = (one & other).sum() / (one | other).sum()
    ious[ious < min_iou] = 0
    ious = ious if n <= m else ious.T
    pairings = [
        [ious[i, j] for i, j in enumerate(columns)]
        for columns in permutations(range(ious.shape[1]), len(ious))
    ]
    best = max(map(sum, pairings))
    return {sum(iou > 0 for iou in one) for one in pairings if sum(one) > best - 1e-9}


@pytest.mark.parametrize("case", PANOPTICA)
def test_matches_are_those_of_panoptica(case):
    pred, target = unpack(case["pred"], case["shape"]), unpack(case["target"], case["shape"])
    found = match_lesions(pred, target, case["min_iou"])
    assert found == LesionMatches(case["lesions"], case["predicted"], case["matched"], 1)
    assert found.f1() == pytest.approx(case["f1"])
    if case["shape"][0] == 1:
        assert match_lesions(pred[0], target[0], case["min_iou"]) == found


@given(VOLUMES, st.sampled_from([0.1, 0.25, 0.5]))
def test_the_pairing_has_the_largest_sum_of_iou(pair, min_iou):
    found = match_lesions(*pair, min_iou)
    if max(found.lesions, found.predicted) <= 6:
        assert found.matched in best_pairing(*pair, min_iou)


@given(VOLUMES)
def test_a_lesion_has_at_most_one_part_and_a_part_one_lesion(pair):
    forth, back = match_lesions(*pair), match_lesions(*pair[::-1])
    assert forth.matched <= min(forth.lesions, forth.predicted)
    assert forth == LesionMatches(back.predicted, back.lesions, back.matched, 1)
    same = match_lesions(pair[0], pair[0])
    assert same.lesions == same.predicted == same.matched


@given(VOLUMES)
def test_a_higher_iou_matches_no_more_lesions(pair):
    matched = [match_lesions(*pair, min_iou).matched for min_iou in (0.01, 0.1, 0.5, 1.0)]
    assert matched[-1] <= matched[0]
    assert matched[2] <= matched[0]


def test_a_prediction_of_the_complete_image_finds_no_small_lesion():
    target = np.zeros((20, 20), bool)
    target[2:5, 2:5] = target[12:15, 12:15] = True
    assert match_lesions(np.ones_like(target), target) == LesionMatches(2, 1, 0, 1)
    assert count_lesions(np.ones_like(target), target).recall() == 1.0  # touch-matching finds both


def test_one_part_over_two_lesions_finds_one():
    target = np.zeros((3, 9), bool)
    target[:, 1:4] = target[:, 5:8] = True
    pred = np.zeros_like(target)
    pred[:, 1:8] = True
    assert match_lesions(pred, target) == LesionMatches(2, 1, 1, 1)


def test_the_smallest_iou_itself_is_enough():
    pred = np.zeros((1, 10), bool)
    pred[0, 0] = True
    assert match_lesions(pred, np.ones((1, 10), bool), 0.1).matched == 1


def test_matches_by_hand():
    many = LesionMatches(4, 5, 3, 1) + LesionMatches(0, 1, 0, 1)
    assert many == LesionMatches(4, 6, 3, 2)
    assert many.recall() == 0.75
    assert many.precision() == 0.5
    assert many.f1() == 0.6
    assert many.false_positives_per_image() == 1.5


def test_ratios_without_lesions_are_not_numbers():
    healthy = match_lesions(~BLOCK & False, ~BLOCK & False)
    assert healthy == LesionMatches(0, 0, 0, 1)
    assert all(math.isnan(one) for one in (healthy.recall(), healthy.precision(), healthy.f1()))
    assert healthy.false_positives_per_image() == 0.0
    assert match_lesions(BLOCK, BLOCK & False).f1() == 0.0
    assert math.isnan(LesionMatches().false_positives_per_image())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_lesions(BLOCK, BLOCK[:3]), "expected two H×W or D×H×W masks of one shape"),
        (lambda: match_lesions(BLOCK, BLOCK, 0.0), "got a smallest IoU of 0.0"),
        (lambda: match_lesions(BLOCK, BLOCK, 1.1), "got a smallest IoU of 1.1"),
    ],
)
def test_wrong_input_for_matches_is_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
