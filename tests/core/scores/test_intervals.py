import math

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
    np.testing.assert_equal(found[0], found[1])


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
