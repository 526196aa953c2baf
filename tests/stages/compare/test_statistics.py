"""Means, paired differences and fairness of runs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flames_cli.core.scores.comparisons import compare_pairs
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.stages.compare.metrics import COLUMNS
from flames_cli.stages.compare.samples import pool_scores
from flames_cli.stages.compare.statistics import (
    average,
    average_patients,
    compare_samples,
    correct,
    measure_fairness,
)
from tests.support.evaluations import MISSED, case_score

DICE, HD95, FINED = (COLUMNS[name] for name in ("dice", "hd95_px", "hd95_px_penalised"))

dices = st.integers(0, 100).map(lambda n: n / 100)
patients = st.sampled_from("pqrs")


def sample_of(values, **changes):
    """One sample of [(patient, dice)] or {seed: [(patient, dice)]}."""
    by_seed = values if isinstance(values, dict) else {0: values}
    scores = [
        case_score(f"c{number}", dice, patient=patient, seed=seed, **changes)
        for seed, row in by_seed.items()
        for number, (patient, dice) in enumerate(row)
    ]
    (sample,) = pool_scores(scores).values()
    return sample


def test_the_mean_over_cases_and_over_patients():
    sample = sample_of([("p", 0.2), ("p", 0.4), ("q", 0.9)])
    assert average(sample, DICE, 0).mean == pytest.approx(0.5)
    over = average_patients(sample, DICE, 0)
    assert (over.mean, over.n, over.n_patients) == (pytest.approx(0.6), 3, 2)


def test_seeds_have_the_mean_and_the_spread_of_their_means():
    mean = average(sample_of({0: [("p", 0.2), ("q", 0.4)], 1: [("p", 0.4), ("q", 0.6)]}), DICE, 0)
    assert mean.by_replicate == pytest.approx((0.3, 0.5))
    assert mean.mean == pytest.approx(0.4)
    assert mean.sd == pytest.approx(np.std([0.3, 0.5], ddof=1))


def test_missed_cases_are_counted_and_penalised():
    scores = [case_score("a", hd95_px=10.0), case_score("b", hd95_px=MISSED)]
    (sample,) = pool_scores(scores).values()
    plain, fined = average(sample, HD95, 0), average(sample, FINED, 0)
    assert (plain.mean, plain.n, plain.n_missed) == (10.0, 1, 1)
    assert math.isnan(plain.low)
    assert (fined.mean, fined.n, fined.n_missed) == (30.0, 2, 0)


def test_distances_are_paired_over_the_cases_that_neither_run_misses():
    ours = [case_score("a", hd95_px=10.0), case_score("b", hd95_px=MISSED), case_score("c", hd95_px=1.0)]
    theirs = [case_score("a", hd95_px=16.0), case_score("b", hd95_px=8.0), case_score("c", hd95_px=MISSED)]
    pair = [next(iter(pool_scores(scores).values())) for scores in (ours, theirs)]
    plain, fined = (compare_samples(*pair, column, 0) for column in (HD95, FINED))
    assert (plain.mean, plain.n) == (-6.0, 1)
    assert (fined.mean, fined.n) == (pytest.approx((-6 + 42 - 49) / 3), 3)


def test_a_metric_that_no_case_has_is_none():
    sample = sample_of([("p", 0.5)])
    assert average(sample, COLUMNS["nsd_2mm"], 0) is None
    assert average_patients(sample, COLUMNS["nsd_2mm"], 0) is None
    assert compare_samples(sample, sample, COLUMNS["nsd_2mm"], 0) is None


def test_differences_count_the_patients_of_cases_that_both_runs_have():
    ours, theirs = [case_score("a", 0.5), case_score("b", 0.7)], [case_score("b", 0.4), case_score("c", 0.1)]
    pair = [next(iter(pool_scores(scores).values())) for scores in (ours, theirs)]
    found = compare_samples(*pair, DICE, 0)
    assert (found.mean, found.n, found.test.n_patients) == (pytest.approx(0.3), 1, 1)


@given(st.lists(st.tuples(patients, dices), min_size=1, max_size=8))
def test_identical_runs_have_no_difference_and_p_1(values):
    sample = sample_of(values)
    found = compare_samples(sample, sample, DICE, 0)
    assert (found.mean, found.test.p_permutation, found.test.p_wilcoxon) == (0, 1, 1)
    assert (found.test.rank_biserial, found.n) == (0, len(values))


@given(st.lists(st.tuples(patients, dices, dices), min_size=1, max_size=8))
def test_the_difference_of_two_runs_changes_its_sign_with_their_order(rows):
    ours, theirs = (sample_of([(row[0], row[index]) for row in rows]) for index in (1, 2))
    there, back = compare_samples(ours, theirs, DICE, 0), compare_samples(theirs, ours, DICE, 0)
    assert there.mean == pytest.approx(-back.mean)
    assert there.test.p_permutation == back.test.p_permutation
    assert there.test.rank_biserial == pytest.approx(-back.test.rank_biserial)


@given(st.lists(st.tuples(patients, dices, dices), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_the_cases_does_not_matter(rows, random):
    def difference(listed):
        scores = [
            [case_score(f"c{number}", row[index], patient=row[0]) for number, row in listed]
            for index in (1, 2)
        ]
        return compare_samples(*(next(iter(pool_scores(one).values())) for one in scores), DICE, 0)

    listed = [*enumerate(rows)]
    shuffled = random.sample(listed, len(listed))
    one, other = difference(listed), difference(shuffled)
    assert one.mean == pytest.approx(other.mean, abs=1e-12)
    assert one.test.p_permutation == other.test.p_permutation


def test_the_difference_is_that_of_the_functions_on_patients_means():
    ours = {0: [("p", 0.5), ("p", 0.7), ("q", 0.2)], 1: [("p", 0.6), ("p", 0.6), ("q", 0.3)]}
    theirs = {0: [("p", 0.4), ("p", 0.4), ("q", 0.1)], 1: [("p", 0.1), ("p", 0.2), ("q", 0.9)]}
    found = compare_samples(sample_of(ours), sample_of(theirs), DICE, 3)
    per_patient = np.array([[0.2, 0.1], [0.45, -0.6]])
    interval = bootstrap_interval(per_patient, ["p", "q"], 3)
    assert found.same_replicates
    assert (found.mean, found.low, found.high) == pytest.approx((interval.mean, interval.low, interval.high))
    assert found.test.p_permutation == compare_pairs(per_patient.mean(axis=0), 3).p_permutation


def test_runs_with_other_seeds_are_paired_by_case_only():
    ours, theirs = sample_of({0: [("p", 0.5)], 1: [("p", 0.7)]}), sample_of({5: [("p", 0.2)]})
    found = compare_samples(ours, theirs, DICE, 0)
    assert not found.same_replicates
    assert found.mean == pytest.approx(0.4)


def test_one_seed_each_is_paired_whatever_the_seed_is():
    assert compare_samples(
        sample_of({0: [("p", 0.5)]}), sample_of({5: [("p", 0.2)]}), DICE, 0
    ).same_replicates


def test_holm_s_correction_counts_the_comparisons_that_were_made():
    rows = [(f"p{number}", 0.5 + number / 100) for number in range(10)]
    base = sample_of([(patient, 0.2) for patient, _ in rows])
    one = compare_samples(sample_of(rows), base, DICE, 0)
    first, none, second = correct([one, None, one])
    assert none is None
    assert first.p_permutation_holm == second.p_permutation_holm == pytest.approx(2 * one.test.p_permutation)


def test_fairness_names_the_worst_client_and_gives_clients_equal_weight():
    means = {
        name: average(sample_of([("p", dice)] * n), DICE, 0)
        for name, dice, n in (("large", 0.9, 9), ("small", 0.3, 1))
    }
    found = measure_fairness(means, higher_is_better=True)
    assert (found.worst_client, found.worst) == ("small", pytest.approx(0.3))
    assert found.mean == pytest.approx(0.6)
    assert (found.sd, found.range) == pytest.approx((np.std([0.9, 0.3], ddof=1), 0.6))
    assert measure_fairness(means, higher_is_better=False).worst_client == "large"
    assert measure_fairness({}, higher_is_better=True) is None
