import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, rankdata, wilcoxon

from flames_cli.core.scores import comparisons
from flames_cli.core.scores.comparisons import compare_pairs, holm, patient_means

DIFFERENCES = st.lists(st.integers(-20, 20).map(lambda value: value / 100), min_size=1, max_size=7)
FEW = settings(max_examples=25)
"""Wilcoxon's exact test with ties takes some milliseconds."""
P_VALUES = st.lists(st.floats(0, 1), max_size=8)


def test_a_patient_has_one_mean_over_images_and_seeds():
    means = patient_means([[1.0, 3.0, 5.0], [3.0, 5.0, 9.0]], ["b", "b", "a"])
    assert means.tolist() == [7.0, 3.0]
    assert patient_means([1.0, 2.0], ["x", "x"]).tolist() == [1.5]
    assert patient_means([], []).size == 0


@FEW
@given(DIFFERENCES)
def test_few_patients_use_every_combination_of_signs(values):
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in product((1, -1), repeat=len(values))
    ]
    expected = np.mean([one >= abs(sum(values)) - 1e-9 for one in sums])
    found = compare_pairs(values, seed=0)
    assert found.exact
    assert found.p_permutation == pytest.approx(expected)


def test_five_patients_that_all_improve_reach_one_in_sixteen():
    assert compare_pairs([0.1, 0.2, 0.3, 0.4, 0.5], seed=0).p_permutation == 2 / 32


def test_the_permutation_test_is_that_of_scipy():
    values = np.random.default_rng(0).normal(0.03, 0.1, 12)
    theirs = permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert compare_pairs(values, seed=0).p_permutation == pytest.approx(theirs.pvalue)


def test_many_patients_are_drawn_close_to_the_exact_value(monkeypatch):
    values = np.random.default_rng(1).normal(0.03, 0.1, 14)
    exact = compare_pairs(values, seed=0)
    monkeypatch.setattr(comparisons, "EXACT_PATIENTS", 5)
    drawn = compare_pairs(values, seed=0)
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.p_permutation == pytest.approx(exact.p_permutation, abs=0.02)
    assert compare_pairs(values, seed=0) == drawn
    assert compare_pairs(values, seed=1).p_permutation != drawn.p_permutation


def test_blocks_of_draws_give_the_same_p(monkeypatch):
    values = np.random.default_rng(2).normal(0.01, 0.1, 40)
    one_block = compare_pairs(values, seed=0)
    monkeypatch.setattr(comparisons, "_BLOCK", 40 * 777)
    assert compare_pairs(values, seed=0) == one_block


def test_p_is_never_zero():
    assert compare_pairs([0.1] * 60, seed=0).p_permutation == pytest.approx(1 / 20_001)


def test_a_true_null_is_found_about_as_often_as_the_level_says():
    rng = np.random.default_rng(3)
    p = [compare_pairs(rng.normal(0, 0.1, 10), seed=0) for _ in range(300)]
    for name in ("p_permutation", "p_wilcoxon"):
        assert np.mean([getattr(one, name) <= 0.05 for one in p]) == pytest.approx(0.05, abs=0.03)


@FEW
@given(DIFFERENCES)
def test_wilcoxon_is_that_of_scipy_without_zeros(values):
    rounded = np.array([value for value in values if value])
    expected = wilcoxon(np.sort(rounded)).pvalue if rounded.size else 1.0
    assert compare_pairs(values, seed=0).p_wilcoxon == pytest.approx(expected)


@FEW
@given(DIFFERENCES)
def test_effect_sizes_follow_their_formulas(values):
    found, array = compare_pairs(values, seed=0), np.array(values)
    nonzero = array[array != 0]
    ranks = rankdata(np.abs(nonzero))
    expected = (ranks[nonzero > 0].sum() - ranks[nonzero < 0].sum()) / ranks.sum() if nonzero.size else 0.0
    assert found.rank_biserial == pytest.approx(expected)
    if len(set(values)) > 1:
        assert found.cohens_dz == pytest.approx(array.mean() / array.std(ddof=1))
    else:
        assert math.isnan(found.cohens_dz)


@FEW
@given(DIFFERENCES)
def test_the_other_direction_has_the_same_p_and_the_opposite_effect(values):
    forth, back = compare_pairs(values, seed=0), compare_pairs([-value for value in values], seed=0)
    assert forth.p_permutation == back.p_permutation
    assert forth.p_wilcoxon == pytest.approx(back.p_wilcoxon)
    assert forth.rank_biserial == pytest.approx(-back.rank_biserial)


@FEW
@given(DIFFERENCES.flatmap(lambda values: st.tuples(st.just(values), st.permutations(values))))
def test_the_order_of_patients_does_not_matter(pair):
    assert str(compare_pairs(pair[0], seed=0)) == str(compare_pairs(pair[1], seed=0))  # NaN is no NaN


def test_runs_that_are_alike_have_a_p_of_one():
    found = compare_pairs([0.0, 0.0, 0.0], seed=0)
    assert (found.p_permutation, found.p_wilcoxon, found.rank_biserial) == (1.0, 1.0, 0.0)


def test_differences_that_are_equal_up_to_rounding_are_ties():
    noisy = [0.3 - 0.2, 0.2 - 0.1, 0.4 - 0.3, -0.1, 0.25]
    assert len(set(noisy[:3])) == 3
    assert compare_pairs(noisy, 0) == compare_pairs([0.1, 0.1, 0.1, -0.1, 0.25], 0)


def test_no_patient_gives_no_number():
    found = compare_pairs([], seed=0)
    assert found.n_patients == 0
    assert math.isnan(found.mean)
    assert math.isnan(found.p_permutation)


def test_holm_by_hand():
    # Sorted 0.01 0.02 0.03 0.04 times 4 3 2 1: 0.04 0.06 0.06 0.04, never below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []


@given(P_VALUES)
def test_holm_lies_between_the_value_and_bonferroni(values):
    corrected = holm(values)
    assert all(
        p <= new <= min(1.0, p * len(values)) + 1e-12 for p, new in zip(values, corrected, strict=True)
    )
    pairs = sorted(zip(values, corrected, strict=True))
    assert [new for _, new in pairs] == sorted(new for _, new in pairs)


def test_a_test_that_was_not_possible_does_not_count():
    corrected = holm([math.nan, 0.02, 0.03])
    assert math.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare_pairs([0.1, math.inf], 0), "1 values that are not finite"),
        (lambda: patient_means([math.nan], ["a"]), "1 values that are not finite"),
        (lambda: patient_means([1.0, 2.0], ["a"]), "one of each per image"),
        (lambda: holm([1.5]), r"expected numbers in \[0, 1\]"),
    ],
)
def test_wrong_input_is_rejected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
