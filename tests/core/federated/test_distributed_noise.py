import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from flames_cli.core.federated.distributed_noise import (
    LEAST_SHARE,
    SMOOTHING,
    NoiseShares,
    add_noise,
    clipped_update,
    private_entries,
    private_mean,
)
from flames_cli.core.federated.privacy import LEAST_VARIANCE
from flames_cli.core.federated.reports import Entries
from flames_cli.errors import FlamesError

DEFAULT = {
    "noise": 1.0,
    "clip": 0.5,
    "n_values": 40_000,
    "fraction": 36,
    "bits": 64,
    "clients": 5,
    "least": 4,
}


def words_of(seed):
    generator = np.random.default_rng(seed)
    return lambda n: generator.integers(0, 2**64, n, np.uint64)


@given(
    noise=st.floats(0.1, 20),
    clip=st.floats(0.01, 10),
    n_values=st.integers(1, 10**8),
    extra=st.integers(0, 50),
    least=st.integers(3, 100),
)
def test_all_but_one_of_the_fewest_clients_have_the_complete_noise(noise, clip, n_values, extra, least):
    shares = NoiseShares(noise, clip, n_values, 36, 64, least + extra, least)
    sensitivity = clip * 2**36 + math.sqrt(n_values) / 2
    assert shares.sensitivity == pytest.approx(sensitivity, rel=1e-12)
    needed = (noise * sensitivity) ** 2 + SMOOTHING**2
    assert needed <= (least - 1) * shares.variance <= needed * (1 + 1e-8) + least
    assert shares.variance >= LEAST_SHARE**2


def test_the_derivations_numbers_are_right():
    # η(4) of step 2, and r of step 3 for the smallest share.
    assert 2 * math.exp(-2 * math.pi**2 * SMOOTHING**2) < 1e-136
    assert LEAST_SHARE / math.sqrt(2) > SMOOTHING
    y, k = np.random.default_rng(1).uniform(0, 1, (50, 1)), np.arange(-200, 201)
    sums = np.exp(-((k - y) ** 2) / (2 * SMOOTHING**2)).sum(axis=1)
    np.testing.assert_allclose(sums, SMOOTHING * math.sqrt(2 * math.pi), rtol=1e-14)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"fraction": 16, "bits": 32, "clip": 1e-5, "n_values": 4},
            "expected at least 6; pass --wire-dtype fp32",
        ),
        ({"fraction": 16, "bits": 32, "clip": 9000.0}, r"expected below 2\^31; pass --wire-dtype fp32"),
        ({"noise": 1e12}, "or a smaller --dp-clip"),
    ],
)
def test_noise_that_does_not_fit_the_integers_is_rejected(changes, says):
    with pytest.raises(FlamesError, match=says):
        NoiseShares(**{**DEFAULT, **changes})


def test_the_integers_of_an_update_are_never_longer_than_the_sensitivity():
    rng = np.random.default_rng(2)
    start = {"a": rng.normal(size=(70, 9)).astype(np.float32), "n": np.array([3])}
    for size in (1e-4, 0.1, 30.0):
        weights = {"a": start["a"] + size * rng.normal(size=(70, 9)).astype(np.float32), "n": np.array([9])}
        update = clipped_update(weights, start, 0.5)
        assert update.keys() == {"a"}
        moved = weights["a"].astype(float) - start["a"]
        norm = float(np.linalg.norm(moved))
        np.testing.assert_allclose(update["a"], moved * min(1, 0.5 / norm), rtol=1e-8)
        assert np.linalg.norm(update["a"]) <= 0.5
        shares = NoiseShares(1.0, 0.5, 630, 16, 32, 3, 3)
        assert np.linalg.norm(np.rint(update["a"] * 2**16)) <= shares.sensitivity


def test_noise_in_the_sum_is_normal_and_independent_of_the_number_of_bits():
    shares = NoiseShares(2.0, 0.5, 30_000, 16, 32, 3, 3)
    total = np.zeros(30_000, np.uint32)
    for client in range(3):
        words = np.full(30_000, np.uint32(2**32 - 5))  # -5
        add_noise(words, shares.variance, words_of(client))
        total += words
    found = (total.view(np.int32) + 15) / math.sqrt(3 * shares.variance)
    assert kstest(found, "norm").pvalue > 1e-3
    # Without one client's share there is still Z·Δ.
    assert 2 * shares.variance >= (2.0 * shares.sensitivity) ** 2


def test_the_model_is_what_clients_received_plus_the_mean_of_updates():
    start = {
        "w": np.array([1.0, 2.0], np.float32),
        "frozen": np.array([5.0], np.float32),
        "b.running_var": np.array([0.1, 1.00001], np.float32),
        "b.num_batches_tracked": np.array([7]),
    }
    entries = Entries(
        trainable=frozenset({"w"}),
        norm=frozenset(),
        variances=frozenset({"b.running_var"}),
        frozen=frozenset({"frozen"}),
    )
    assert private_entries(start).keys() == {"w", "frozen", "b.running_var"}
    sums = {"w": np.array([3.0, -6.0]), "frozen": np.array([9.0]), "b.running_var": np.array([-9.0, 0.0])}
    mean = private_mean(start, sums, 3, entries, "bf16")
    np.testing.assert_array_equal(mean["w"], np.array([2.0, 0.0], np.float32))
    np.testing.assert_array_equal(mean["frozen"], start["frozen"])
    np.testing.assert_array_equal(mean["b.num_batches_tracked"], [7])
    assert mean["b.running_var"][0] == np.float32(LEAST_VARIANCE)
    assert mean["b.running_var"][1] == 1.0, "the clients received 1.00001 as 1 in bf16"
    assert {name: array.dtype for name, array in mean.items()} == {n: a.dtype for n, a in start.items()}
