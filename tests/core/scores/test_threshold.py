import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.scores.metrics import dice
from flames_cli.core.scores.threshold import (
    DEFAULT,
    GRID,
    CleanupChoice,
    ThresholdChoice,
    choose_cleanup,
    choose_threshold,
    dice_at_thresholds,
)

CASES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(
            np.float32,
            shape,
            elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from([np.float32(one) for one in GRID])),
        ),
        hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)),
    )
)
GRID3 = (0.3, 0.5, 0.7)
PATIENTS = ["a", "a", "b", "c"]


def test_the_default_is_in_the_grid():
    assert DEFAULT in GRID
    assert list(GRID) == sorted(set(GRID))


@given(CASES)
def test_dice_is_that_of_the_mask_above_each_threshold(case):
    probabilities, target = case
    expected = [dice(probabilities > one, target) for one in GRID]
    assert dice_at_thresholds(probabilities, target).tolist() == pytest.approx(expected)


def test_the_highest_mean_over_patients_wins():
    # Means over patients are 0.37 and 0.73.
    table = [[0.9, 0.2, 0.7], [0.9, 0.2, 0.7], [0.1, 0.2, 0.8], [0.1, 0.2, 0.7]]
    found = choose_threshold(table, PATIENTS, enough=3, grid=GRID3)
    assert found == ThresholdChoice(0.7, 3, pytest.approx(2.2 / 3), pytest.approx(0.2), True)
    table = [[0.9, 0.2, 0.3], [0.9, 0.2, 0.3], [0.8, 0.2, 0.3], [0.7, 0.2, 0.4]]
    assert choose_threshold(table, PATIENTS, enough=3, grid=GRID3).threshold == 0.3


def test_a_gain_within_its_standard_error_changes_nothing():
    people = ["a", "b", "c"]
    sure, unsure = [[0.5, 0.4], [0.6, 0.5], [0.45, 0.4]], [[0.9, 0.4], [0.4, 0.5], [0.3, 0.4]]
    grid = (0.3, 0.5)
    assert np.mean(unsure, axis=0)[0] > np.mean(unsure, axis=0)[1]
    assert choose_threshold(sure, people, 3, grid).threshold == 0.3
    assert choose_threshold(unsure, people, 3, grid).threshold == 0.5
    assert not choose_cleanup([0.4, 0.5, 0.4], [0.9, 0.4, 0.3], people, enough=3).largest_only


def test_of_equal_thresholds_the_nearest_to_the_default_wins():
    assert choose_threshold([[0.4, 0.4, 0.4]], ["a"], 1, GRID3).threshold == 0.5
    assert choose_threshold([[0.4, 0.1, 0.4]], ["a"], 1, GRID3).threshold == 0.3
    assert choose_threshold([[0.5, 0.1, 0.1, 0.5]], ["a"], 1, (0.1, 0.4, 0.5, 0.8)).threshold == 0.8


def test_few_patients_keep_the_default():
    table = [[0.9, 0.2, 0.3]] * 4
    assert choose_threshold(table, PATIENTS, enough=4, grid=GRID3) == ThresholdChoice(
        0.5, 3, pytest.approx(0.2), pytest.approx(0.2), False
    )
    found = choose_threshold([], [], enough=1)
    assert (found.threshold, found.n_patients, found.enough) == (0.5, 0, False)
    assert math.isnan(found.dice)


@given(st.permutations(range(6)))
def test_the_order_of_images_does_not_matter(order):
    table = np.array(
        [[0.1, 0.2, 0.3], [0.7, 0.6, 0.1], [0.3, 0.3, 0.3], [0.3, 0.1, 0.2], [0.9, 1, 0.9], [0, 0, 0.4]]
    )
    people = np.array(["a", "a", "b", "c", "c", "d"])
    index = list(order)
    found = choose_threshold(table[index], people[index].tolist(), 2, GRID3)
    assert found == choose_threshold(table, people.tolist(), 2, GRID3)


def test_the_largest_part_stays_alone_only_if_validation_improves():
    plain, better = [0.2, 0.4, 0.5, 0.6], [0.3, 0.4, 0.6, 0.6]
    found = choose_cleanup(plain, better, PATIENTS, enough=3)
    assert found == CleanupChoice(True, 3, pytest.approx(1.55 / 3), pytest.approx(1.4 / 3), True)
    assert not choose_cleanup(plain, plain, PATIENTS, enough=3).largest_only
    assert not choose_cleanup(better, plain, PATIENTS, enough=3).largest_only
    few = choose_cleanup(plain, better, PATIENTS, enough=4)
    assert (few.largest_only, few.enough) == (False, False)
    assert not choose_cleanup([], [], [], enough=1).largest_only


@pytest.mark.parametrize(
    "call",
    [
        lambda: choose_threshold([[0.1, 0.2, 0.3]], ["a", "b"], 1, GRID3),
        lambda: choose_threshold([[0.1, math.nan, 0.3]], ["a"], 1, GRID3),
        lambda: choose_threshold([[0.1, 0.2]], ["a"], 1, (0.3, 0.7)),
        lambda: choose_cleanup([0.1], [0.1, 0.2], ["a"], 1),
    ],
)
def test_wrong_input_is_rejected(call):
    with pytest.raises(ValueError, match=r"cannot reshape|not finite|not in|one of each per image"):
        call()
