import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.scores.calibration import EDGES, EMPTY, N_BINS, RELEVANT, measure_reliability

CASES = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32)),
        hnp.arrays(np.uint8, n, elements=st.integers(0, 1)),
    )
)


def plain_ece(probabilities, target, relevant=False):
    """Return the ECE bin by bin, as in the paper."""
    values = np.asarray(probabilities, np.float64)
    edges = EDGES[1:] if relevant else [edge for edge in EDGES if edge != RELEVANT]
    used = values >= edges[0]
    if not used.any():
        return math.nan
    error = 0.0
    for low, high in pairwise(edges):
        inside = used & (values >= low) & ((values < high) | (high == 1.0))
        if inside.any():
            gap = abs(np.asarray(target)[inside].mean() - values[inside].mean())
            error += inside.sum() / used.sum() * gap
    return error


def test_bins_by_hand():
    found = measure_reliability(np.array([[0.0, 0.005], [0.02, 1.0]]), np.array([[0, 1], [0, 1]]))
    assert found.counts.tolist() == [2, 1, *[0] * (N_BINS - 2), 1]
    assert found.positives.tolist() == [1, 0, *[0] * (N_BINS - 2), 1]
    assert found.probability_sums[:2].tolist() == [0.005, 0.02]
    # The first bin of 1/15 has three pixels, one of them tumour, and a sum of 0.025.
    assert found.ece() == pytest.approx((1 - 0.025) / 4)
    assert found.relevant_ece() == pytest.approx(0.02 / 2)


@given(CASES)
def test_the_error_follows_its_formula(case):
    found = measure_reliability(*case)
    assert found.ece() == pytest.approx(plain_ece(*case))
    assert found.relevant_ece() == pytest.approx(plain_ece(*case, relevant=True), nan_ok=True)


@given(CASES, CASES)
def test_bins_of_cases_add_up(one, other):
    both = measure_reliability(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))
    added = EMPTY + measure_reliability(*one) + measure_reliability(*other)
    assert added.counts.tolist() == both.counts.tolist()
    assert added.positives.tolist() == both.positives.tolist()
    assert added.probability_sums == pytest.approx(both.probability_sums)


def test_true_probabilities_have_no_error_and_confident_ones_have():
    rng = np.random.default_rng(0)
    probabilities = rng.random(200_000)
    found = measure_reliability(probabilities, rng.random(200_000) < probabilities)
    assert found.ece() < 0.01
    assert found.relevant_ece() < 0.01
    confident = measure_reliability(np.round(probabilities), rng.random(200_000) < probabilities)
    assert confident.ece() == pytest.approx(0.25, abs=0.01)


def test_sure_background_hides_the_error_only_in_the_first_figure():
    probabilities, target = np.zeros(10_000), np.zeros(10_000, np.uint8)
    probabilities[:100], target[:50] = 0.9, 1
    found = measure_reliability(probabilities, target)
    assert found.ece() == pytest.approx(0.004)
    assert found.relevant_ece() == pytest.approx(0.4)


def test_no_pixel_gives_no_number():
    assert math.isnan(EMPTY.ece())
    assert math.isnan(measure_reliability(np.zeros(3), np.zeros(3)).relevant_ece())


@pytest.mark.parametrize(
    ("probabilities", "target", "message"),
    [
        (np.zeros(3), np.zeros(2), "expected one shape"),
        (np.array([1.5]), np.zeros(1), r"outside \[0, 1\]"),
        (np.array([np.nan]), np.zeros(1), r"outside \[0, 1\]"),
        (np.zeros(1), np.array([2]), "other values than 0 and 1"),
    ],
)
def test_wrong_input_is_rejected(probabilities, target, message):
    with pytest.raises(ValueError, match=message):
        measure_reliability(probabilities, target)
