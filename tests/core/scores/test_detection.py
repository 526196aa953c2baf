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
from flames_cli.core.scores.detection import LesionMatches, match_lesions

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

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1)))
def test_lesions_are_those_of_preprocessing(mask):
    assert match_lesions(mask, mask).lesions == measure_lesions(mask).n


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        (PRED[None, None], TRUTH[None, None], "one case at a time"),
        (PRED[:4], TRUTH, "two H×W or D×H×W masks of one shape"),
        (PRED * 255, TRUTH, "got the value 255 in the prediction"),
        (PRED, TRUTH * 0.5, "got the value 0.5 in the target"),
    ],
)
def test_anything_but_a_pair_of_masks_is_rejected(pred, target, message):
    with pytest.raises(ValueError, match=message):
        match_lesions(pred, target)


def test_masks_are_left_as_they_are():
    pred, target = PRED.copy(), TRUTH[::-1]
    before = target.copy()
    match_lesions(pred, target)
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
