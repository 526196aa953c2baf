import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flames_cli.core.rng import derive_rng
from flames_cli.core.scores import intervals
from flames_cli.core.scores.intervals import Interval, bootstrap_interval

IMAGES = st.lists(
    st.tuples(st.floats(-1, 1, allow_subnormal=False), st.sampled_from("abcde")), min_size=1, max_size=20
)


def simulate(rng, n_patients, between, within, truth=0.0):
    """Draw the differences of 1 to 9 images per patient, which share the patient's own difference."""
    sizes = rng.integers(1, 10, n_patients)
    own = np.repeat(rng.normal(truth, between, n_patients), sizes)
    patients = np.repeat([f"p{number}" for number in range(n_patients)], sizes)
    return own + rng.normal(0, within, own.size), patients


def test_two_patients_of_one_image_draw_each_alone_or_both():
    found = bootstrap_interval([0.0, 1.0], ["a", "b"], seed=0)
    assert found == Interval(0.5, 0.0, 1.0, 2, 2)
    # The draws are 0, 1/2 and 1, once, twice and once in four times: the middle 40 % are all 1/2.
    assert bootstrap_interval([0.0, 1.0], ["a", "b"], seed=0, draws=10_000, level=0.4).low == 0.5


def test_a_patient_weighs_by_images_and_is_drawn_with_all_of_them():
    found = bootstrap_interval([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"], seed=3)
    assert found == Interval(0.25, 0.0, 1.0, 4, 2)


def test_limits_agree_with_a_plain_loop():
    differences, patients = simulate(np.random.default_rng(0), 6, 0.1, 0.05)
    names = sorted(set(patients), key=lambda name: differences[patients == name].sum())
    drawn = derive_rng(5, "bootstrap").integers(len(names), size=(200, len(names)))
    means = []
    for sample in drawn:
        chosen = [differences[patients == names[number]] for number in sample]
        means.append(np.concatenate(chosen).mean())
    found = bootstrap_interval(differences, patients, seed=5, draws=200, level=0.9)
    assert found.low == pytest.approx(np.quantile(means, 0.05), abs=1e-12)
    assert found.high == pytest.approx(np.quantile(means, 0.95), abs=1e-12)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-12)
    assert (found.n, found.n_patients) == (len(differences), 6)


def test_limits_hold_the_truth_about_as_often_as_they_say():
    rng, runs, held, naive = np.random.default_rng(1), 200, 0, 0
    for seed in range(runs):
        differences, patients = simulate(rng, 40, between=0.1, within=0.05, truth=0.02)
        by_patient = bootstrap_interval(differences, patients, seed, draws=400)
        by_image = bootstrap_interval(differences, range(len(differences)), seed, draws=400)
        held += by_patient.low <= 0.02 <= by_patient.high
        naive += by_image.low <= 0.02 <= by_image.high
    assert 0.89 <= held / runs <= 0.99
    assert naive / runs < 0.75  # as if images of one patient were independent


@settings(max_examples=30)
@given(IMAGES, st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_the_names_of_patients_matter(images, random):
    shuffled = list(images)
    random.shuffle(shuffled)
    called = dict(zip("abcde", random.sample("abcde", 5), strict=True))
    renamed = [(difference, called[patient]) for difference, patient in images]
    orders = (images, shuffled, renamed)
    found = [bootstrap_interval(*zip(*order, strict=True), seed=1, draws=20) for order in orders]
    np.testing.assert_equal(asdict(found[0]), asdict(found[1]))  # Python 3.13 compares NaN by value


@settings(max_examples=30)
@given(IMAGES)
def test_the_mean_is_over_images_and_limits_are_in_order(images):
    differences, patients = zip(*images, strict=True)
    found = bootstrap_interval(differences, patients, seed=2, draws=50)
    assert found.mean == pytest.approx(np.mean(differences), abs=1e-12)
    assert (found.n, found.n_patients) == (len(images), len(set(patients)))
    if found.n_patients > 1:
        assert min(differences) - 1e-12 <= found.low <= found.high <= max(differences) + 1e-12


def test_the_same_seed_gives_the_same_limits():
    differences, patients = simulate(np.random.default_rng(2), 9, 0.1, 0.05)
    first, again, other = (bootstrap_interval(differences, patients, seed) for seed in (7, 7, 8))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.mean == other.mean


def test_draws_in_blocks_follow_one_stream(monkeypatch):
    differences, patients = simulate(np.random.default_rng(3), 9, 0.1, 0.05)
    whole = bootstrap_interval(differences, patients, seed=0, draws=100)
    monkeypatch.setattr(intervals, "_BLOCK", 9 * 30)
    assert bootstrap_interval(differences, patients, seed=0, draws=100) == whole


def test_one_patient_has_no_limits_and_no_image_no_mean():
    alone = bootstrap_interval([0.1, 0.3], ["a", "a"], seed=0)
    assert (alone.mean, alone.n, alone.n_patients) == (pytest.approx(0.2), 2, 1)
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    nothing = bootstrap_interval([], [], seed=0)
    assert all(math.isnan(value) for value in (nothing.mean, nothing.low, nothing.high))
    assert (nothing.n, nothing.n_patients) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.1], ["a", "b"], 0), "one of each per image"),
        (([[0.1]], [["a"]], 0), "one of each per image"),
        (([0.1, math.inf, math.nan], ["a", "b", "c"], 0), "got 2 values that are not finite"),
        (([0.1], ["a"], 0, 0), "got 0 draws and level 0.95"),
        (([0.1], ["a"], 0, 10, 1.0), "got 10 draws and level 1"),
    ],
)
def test_what_cannot_be_drawn_from_is_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(*arguments)


MATRICES = st.integers(1, 4).flatmap(
    lambda n_seeds: st.lists(
        st.tuples(
            st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=n_seeds, max_size=n_seeds),
            st.sampled_from("abcde"),
        ),
        min_size=1,
        max_size=12,
    )
)


def matrix_of(images):
    """Return S×N values and the patient of each of the N images."""
    values, patients = zip(*images, strict=True)
    return np.array(values).T, list(patients)


@settings(max_examples=30)
@given(IMAGES)
def test_one_seed_has_the_interval_over_patients(images):
    values, patients = zip(*images, strict=True)
    alone = bootstrap_interval(values, patients, seed=3, draws=40)
    found = bootstrap_interval([values], patients, seed=3, draws=40)
    np.testing.assert_equal(asdict(found), asdict(alone))


@settings(max_examples=30)
@given(MATRICES)
def test_the_mean_is_over_images_and_seeds_and_limits_stay_among_them(images):
    values, patients = matrix_of(images)
    found = bootstrap_interval(values, patients, seed=2, draws=50)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert (found.n, found.n_patients) == (len(patients), len(set(patients)))
    if found.n_patients > 1:
        assert values.min() - 1e-12 <= found.low <= found.high <= values.max() + 1e-12


@settings(max_examples=20)
@given(MATRICES, st.integers(2, 3))
def test_seeds_with_the_same_values_are_as_one(images, times):
    values, patients = matrix_of(images)
    one = bootstrap_interval(values[:1], patients, seed=4, draws=30)
    several = bootstrap_interval(np.repeat(values[:1], times, axis=0), patients, seed=4, draws=30)
    np.testing.assert_allclose(
        [several.mean, several.low, several.high], [one.mean, one.low, one.high], atol=1e-12
    )


def test_limits_over_seeds_agree_with_a_plain_loop():
    rng = np.random.default_rng(7)
    own, patients = simulate(rng, 6, 0.1, 0.05)
    values = own + rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.02, (3, own.size))
    names = sorted(set(patients), key=lambda name: values[0, patients == name].sum())
    people = derive_rng(5, "bootstrap").integers(len(names), size=(200, len(names)))
    seeds = derive_rng(5, "bootstrap", "seeds").integers(3, size=(200, 3))
    means = []
    for sample, chosen in zip(people, seeds, strict=True):
        columns = np.concatenate([np.flatnonzero(patients == names[number]) for number in sample])
        means.append(np.mean([values[seed, columns].mean() for seed in chosen]))
    found = bootstrap_interval(values, patients, seed=5, draws=200, level=0.9)
    assert found.low == pytest.approx(np.quantile(means, 0.05), abs=1e-12)
    assert found.high == pytest.approx(np.quantile(means, 0.95), abs=1e-12)


def test_seeds_that_differ_widen_the_limits():
    rng = np.random.default_rng(8)
    own, patients = simulate(rng, 30, 0.1, 0.05)
    values = own + np.array([[-0.3], [0.0], [0.3]])
    seeds, mean = (bootstrap_interval(one, patients, seed=0) for one in (values, values.mean(axis=0)))
    assert seeds.mean == pytest.approx(mean.mean)
    assert seeds.high - seeds.low > 2 * (mean.high - mean.low)


@settings(max_examples=20)
@given(MATRICES)
def test_what_is_subtracted_changes_the_mean_by_its_own(images):
    values, patients = matrix_of(images)
    theirs = np.vstack([values[:1] / 2, values[:1] / 4])
    found = bootstrap_interval(values, patients, seed=1, draws=30, minus=theirs)
    assert found.mean == pytest.approx(values.mean() - theirs.mean(), abs=1e-12)
    nothing = bootstrap_interval(values, patients, seed=1, draws=30, minus=np.zeros_like(theirs))
    plain = bootstrap_interval(values, patients, seed=1, draws=30)
    assert nothing.mean == plain.mean


def test_one_seed_of_each_run_is_the_interval_of_differences():
    differences, patients = simulate(np.random.default_rng(2), 9, 0.1, 0.05)
    theirs = np.linspace(0, 1, len(differences))
    apart = bootstrap_interval(differences + theirs, patients, 7, minus=[theirs])
    paired = bootstrap_interval(differences, patients, 7)
    assert apart.mean == pytest.approx(paired.mean, abs=1e-12)
    assert apart.n == paired.n
