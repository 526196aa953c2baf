import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import directed_hausdorff

from flames_cli.core.scores.metrics import (
    Counts,
    Summary,
    case_metrics,
    count_pixels,
    dice,
    hausdorff_px,
    iou,
    pixel_accuracy,
    summarise,
)
from flames_cli.core.scores.summaries import REPORTED_METRICS

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "flames_metrics.npz"

PRED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
TARGET = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
EMPTY = np.zeros((4, 4), np.uint8)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


def brute_hausdorff(pred, target):
    a, b = np.argwhere(pred), np.argwhere(target)
    if not len(a) or not len(b):
        return math.inf
    return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared golden vectors are not here")
@pytest.mark.parametrize("batch", range(6))
def test_metrics_match_the_authors(batch):
    golden = np.load(GOLDEN)
    preds = golden[f"{batch}_pred"][:, 0] >= 0.5
    targets = golden[f"{batch}_target"][:, 0]
    cases = [case_metrics(pred, target) for pred, target in zip(preds, targets, strict=True)]
    for name in ("iou", "dice", "pixel_accuracy"):
        assert np.mean([case[name] for case in cases]) == pytest.approx(golden[f"{batch}_{name}"], abs=1e-6)
    distances = [case["hausdorff_px"] for case in cases]
    assert np.mean(distances) == pytest.approx(golden[f"{batch}_hausdorff"], abs=1e-6)


def test_counts_by_hand():
    assert count_pixels(PRED, TARGET) == Counts(2, 2, 3, 9)


def test_metrics_by_hand():
    assert iou(PRED, TARGET) == pytest.approx(2 / 7, abs=1e-6)
    assert dice(PRED, TARGET) == pytest.approx(4 / 9, abs=1e-6)
    assert pixel_accuracy(PRED, TARGET) == 11 / 16
    # From the corner (3, 3) the nearest predicted pixel is (1, 1).
    assert hausdorff_px(PRED, TARGET) == math.sqrt(8)


def test_hausdorff_counts_pixels_inside_a_ring():
    ring = np.ones((5, 5), np.uint8)
    ring[1:4, 1:4] = 0
    assert hausdorff_px(np.ones((5, 5), np.uint8), ring) == 2


def test_two_empty_masks_agree_but_have_no_distance():
    expected = {"iou": 1.0, "dice": 1.0, "pixel_accuracy": 1.0, "hausdorff_px": math.inf}
    assert case_metrics(EMPTY, EMPTY) == {**expected, "majority_accuracy": 1.0}


@pytest.mark.parametrize(("pred", "target"), [(PRED, EMPTY), (EMPTY, TARGET)])
def test_one_empty_mask_scores_nothing_and_is_infinitely_far(pred, target):
    assert iou(pred, target) == pytest.approx(0, abs=1e-6)
    assert dice(pred, target) == pytest.approx(0, abs=1e-6)
    assert hausdorff_px(pred, target) == math.inf


def test_every_number_type_gives_the_same_metrics():
    whole = case_metrics(PRED, TARGET)
    assert case_metrics(PRED.astype(bool), TARGET.astype(np.uint8)) == whole
    assert case_metrics(PRED.astype(np.float32), TARGET.astype(np.int8)) == whole


@given(PAIRS)
def test_metrics_are_symmetric(pair):
    there, back = case_metrics(*pair), case_metrics(*pair[::-1])
    assert all(there[name] == back[name] for name in REPORTED_METRICS)


@given(PAIRS)
def test_majority_accuracy_is_the_pixel_accuracy_of_an_empty_prediction(pair):
    pred, target = pair
    assert case_metrics(pred, target)["majority_accuracy"] == pixel_accuracy(np.zeros_like(target), target)


@given(PAIRS)
def test_ratios_stay_between_zero_and_one(pair):
    metrics = case_metrics(*pair)
    assert all(0 <= metrics[name] <= 1 for name in metrics if name != "hausdorff_px")


@given(PAIRS)
def test_dice_follows_from_iou(pair):
    overlap = iou(*pair)
    assert dice(*pair) == pytest.approx(2 * overlap / (1 + overlap), abs=1e-5)


@given(PAIRS)
def test_hausdorff_equals_brute_force(pair):
    assert hausdorff_px(*pair) == pytest.approx(brute_hausdorff(*pair), abs=1e-9)


@given(PAIRS)
def test_counts_add_up_to_the_pixels(pair):
    counts = count_pixels(*pair)
    total = counts.true_positive + counts.false_positive + counts.false_negative + counts.true_negative
    assert total == pair[0].size


def test_masks_of_other_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 3\).*one shape"):
        iou(PRED, TARGET[:, :3])


@pytest.mark.parametrize("shape", [(1, 4, 4), (16,), (0, 4)])
def test_anything_but_one_case_is_rejected(shape):
    with pytest.raises(ValueError, match="one case at a time"):
        dice(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("value", [0.5, 2, 255, -1, math.nan])
def test_values_other_than_zero_and_one_are_rejected(value):
    with pytest.raises(ValueError, match=r"in the target.*expected only 0 and 1"):
        hausdorff_px(PRED, np.full((4, 4), value))


def test_summary_by_hand():
    assert summarise([1.0, 2.0, 3.0]) == Summary(2.0, 1.0, 3, 0)


def test_summary_sets_infinite_values_aside():
    assert summarise([1.0, math.inf, 3.0, math.inf]) == Summary(2.0, pytest.approx(math.sqrt(2)), 2, 2)


def test_summary_of_one_value_has_no_spread():
    assert summarise([0.7]) == Summary(0.7, 0.0, 1, 0)


@pytest.mark.parametrize(("values", "n_infinite"), [([], 0), ([math.inf], 1)])
def test_summary_without_a_finite_value_is_nan(values, n_infinite):
    summary = summarise(values)
    assert math.isnan(summary.mean)
    assert math.isnan(summary.sd)
    assert (summary.n, summary.n_infinite) == (0, n_infinite)


def test_summary_rejects_nan():
    with pytest.raises(ValueError, match="NaN in 1 of 2"):
        summarise([0.5, math.nan])


@given(PAIRS)
def test_counts_of_slices_add_up_to_those_of_the_volume(pair):
    pred, target = pair
    rows = [count_pixels(one[None], other[None]) for one, other in zip(pred, target, strict=True)]
    assert sum(rows, Counts(0, 0, 0, 0)) == count_pixels(pred, target)


def test_volumes_by_hand():
    counts = Counts(true_positive=6, false_positive=4, false_negative=2, true_negative=88)
    assert counts.sensitivity() == 0.75
    assert counts.precision() == 0.6
    assert counts.volume_ml(500.0) == 4.0  # 8 voxels of half a millilitre
    assert counts.predicted_ml(500.0) == 5.0
    assert counts.volume_error_ml(500.0) == 1.0
    assert not counts.both_empty


def test_a_share_of_an_empty_mask_is_not_a_number():
    missed, false = Counts(0, 0, 5, 5), Counts(0, 5, 0, 5)
    assert (missed.sensitivity(), false.precision()) == (0.0, 0.0)
    assert math.isnan(missed.precision())
    assert math.isnan(false.sensitivity())
    assert missed.volume_error_ml(1000.0) == -5.0
    assert Counts(0, 0, 0, 10).both_empty


@given(PAIRS)
def test_the_volume_error_is_the_difference_of_both_volumes(pair):
    counts = count_pixels(*pair)
    assert counts.volume_error_ml(3.7) == pytest.approx(counts.predicted_ml(3.7) - counts.volume_ml(3.7))
