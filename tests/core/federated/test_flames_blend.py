import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated import blocks
from flames_cli.core.federated.choice import flames_alpha
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.running_sum import weighted_mean
from tests.support.asserts import assert_same
from tests.support.reports import make_model

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "flames_aggregation.npz"

VALUES = hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
CLIENTS = st.lists(st.tuples(VALUES, st.integers(1, 10_000)), min_size=1, max_size=6)


def personalised_by_hand(values, counts):
    """Return the models by the definition, in O(K²)."""
    k = len(values)
    alpha = min(1.0, 0.1 + 1.0 / k)
    personalised = []
    for i in range(k):
        others = [j for j in range(k) if j != i]
        total = sum(1 / counts[j] for j in others)
        mean = sum((1 / counts[j]) / total * values[j].astype(np.float64) for j in others)
        personalised.append(alpha * values[i].astype(np.float64) + (1 - alpha) * mean)
    return personalised


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared golden vectors are not here")
@pytest.mark.parametrize("k", [2, 3, 5])
def test_blend_matches_the_authors(k):
    golden = np.load(GOLDEN)
    arrays = [{f"l{layer}": golden[f"n{k}_in_c{i}_l{layer}"] for layer in range(3)} for i in range(k)]
    assert flames_alpha(k) == pytest.approx(float(golden[f"n{k}_alpha"]))
    personalised, server = blend_flames(arrays, golden[f"n{k}_num_examples"].tolist())
    for i, weights in enumerate(personalised):
        assert_same(
            weights,
            {f"l{layer}": golden[f"n{k}_personalised_c{i}_l{layer}"] for layer in range(3)},
            1e-5,
            1e-5,
        )
    assert_same(server, {f"l{layer}": golden[f"n{k}_server_l{layer}"] for layer in range(3)}, 1e-5, 1e-5)


def test_blend_of_one_client_is_its_own_weights():
    personalised, server = blend_flames([make_model(3, 8)], [7])
    assert flames_alpha(1) == 1.0
    assert_same(personalised[0], make_model(3, 8))
    assert_same(server, make_model(3, 8))


def test_the_blend_of_one_client_is_its_own_model():
    personalised, _ = blend_flames([make_model(3)], [7], alpha=0.25)
    assert_same(personalised[0], make_model(3))


def test_blend_of_two_clients_by_hand():
    personalised, server = blend_flames([make_model(1), make_model(3)], [10, 90])
    assert_same(personalised[0], make_model(0.6 * 1 + 0.4 * 3), rtol=1e-6)
    assert_same(personalised[1], make_model(0.6 * 3 + 0.4 * 1), rtol=1e-6)
    assert_same(server, make_model(2))


def test_blend_of_five_clients_by_hand():
    personalised, server = blend_flames([make_model(v) for v in (10, 1, 2, 3, 4)], [1, 2, 4, 4, 4])
    assert_same(personalised[0], make_model(0.3 * 10 + 0.7 * (0.4 * 1 + 0.2 * (2 + 3 + 4))), rtol=1e-6)
    assert_same(server, make_model(4))


@settings(max_examples=50)
@given(CLIENTS.filter(lambda clients: len(clients) > 1))
def test_blend_in_one_pass_equals_the_definition(clients):
    values, counts = zip(*clients, strict=True)
    personalised, server = blend_flames([{"w": value} for value in values], counts)
    for got, expected in zip(personalised, personalised_by_hand(values, counts), strict=True):
        np.testing.assert_allclose(got["w"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(server["w"], np.mean(values, axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)


@settings(max_examples=50)
@given(CLIENTS, st.randoms(use_true_random=False))
def test_blend_ignores_client_order(clients, random):
    order = random.sample(range(len(clients)), len(clients))
    arrays, counts = [{"w": value} for value, _ in clients], [n for _, n in clients]
    personalised, server = blend_flames(arrays, counts)
    moved, moved_server = blend_flames([arrays[i] for i in order], [counts[i] for i in order])
    for place, i in enumerate(order):
        assert_same(moved[place], personalised[i], 1e-5, 1e-5)
    assert_same(moved_server, server, 1e-5, 1e-5)


@settings(max_examples=50)
@given(VALUES, st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_equal_clients_blend_to_the_same_weights(value, counts):
    personalised, server = blend_flames([{"w": value}] * len(counts), counts)
    for weights in (*personalised, server, weighted_mean([{"w": value}] * len(counts), counts)):
        assert_same(weights, {"w": value}, 1e-6, 1e-6)


@settings(max_examples=50)
@given(CLIENTS, st.floats(0, 1))
def test_blends_stay_between_the_clients(clients, alpha):
    values, counts = zip(*clients, strict=True)
    arrays = [{"w": value} for value in values]
    personalised, server = blend_flames(arrays, counts, alpha)
    for weights in (*personalised, server, weighted_mean(arrays, counts)):
        assert (weights["w"] >= np.min(values, axis=0) - 1e-4).all()
        assert (weights["w"] <= np.max(values, axis=0) + 1e-4).all()


def test_counters_stay_int64_and_batchnorm_statistics_take_part():
    personalised, server = blend_flames([make_model(0, 10), make_model(4, 13)], [10, 10])
    assert_same(server, make_model(2, 12))
    assert_same(personalised[0], make_model(1.6, 11), rtol=1e-6)
    assert_same(weighted_mean([make_model(0, 10), make_model(4, 14)], [3, 1]), make_model(1, 11))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_come_back_in_their_own_precision(dtype):
    arrays = [{"w": np.ones(2, dtype)}, {"w": np.zeros(2, dtype)}]
    personalised, server = blend_flames(arrays, [1, 2])
    for weights in (*personalised, server, weighted_mean(arrays, [1, 2])):
        assert isinstance(weights["w"], np.ndarray)
        assert weights["w"].dtype == dtype


def test_float64_sums_outlast_float32_rounding():
    many = [{"w": np.array([2.0**24 if i == 0 else 1.0], np.float32)} for i in range(1001)]
    assert weighted_mean(many, [1.0] * 1001)["w"] == np.float32((2.0**24 + 1000) / 1001)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_blend_neither_changes_nor_shares_its_inputs(k):
    arrays = [make_model(i, i) for i in range(k)]
    before = copy.deepcopy(arrays)
    personalised, server = blend_flames(arrays, [5] * k)
    mean = weighted_mean(arrays, [5] * k)
    for weights in (*personalised, server, mean):
        for name, array in weights.items():
            assert not any(np.shares_memory(array, entry[name]) for entry in arrays)
    for entry, original in zip(arrays, before, strict=True):
        assert_same(entry, original)


def test_entries_of_any_size_and_layout_are_blended_completely(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    values = [np.arange(15, dtype=np.float32).reshape(3, 5) * scale for scale in (1, 2, 6)]
    laid_out = [np.asfortranarray(values[0]), values[1], np.ascontiguousarray(values[2].T).T]
    for order in ([0, 1, 2], [1, 2, 0]):
        arrays = [{"w": laid_out[i]} for i in order]
        personalised, server = blend_flames(arrays, [7] * 3)
        np.testing.assert_allclose(server["w"], values[0] * 3, rtol=1e-6)
        by_hand = personalised_by_hand([values[i] for i in order], [7] * 3)
        for got, expected in zip(personalised, by_hand, strict=True):
            np.testing.assert_allclose(got["w"], expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_0_to_1_is_rejected(alpha):
    with pytest.raises(ValueError, match=r"alpha is .*, expected a number in \[0, 1\]"):
        blend_flames([make_model(1), make_model(2)], [1, 1], alpha)


@pytest.mark.parametrize("counts", [[0, 1], [-2, 1]])
def test_blend_rejects_clients_without_examples(counts):
    with pytest.raises(ValueError, match="must all be above 0"):
        blend_flames([make_model(1), make_model(2)], counts)


@pytest.mark.parametrize("mix", [weighted_mean, blend_flames])
@pytest.mark.parametrize("counts", [[], [1, 2]])
def test_no_models_or_too_few_are_rejected(mix, counts):
    with pytest.raises(
        ValueError, match=f"got {min(len(counts), 1)} sets of weights and {len(counts)} counts"
    ):
        mix([make_model(1)][: len(counts)], counts)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1], [float("inf"), 1]])
def test_mean_rejects_weights_that_cannot_weigh(weights):
    with pytest.raises(ValueError, match="must be finite, not negative, and sum to more than 0"):
        weighted_mean([make_model(1), make_model(2)], weights)


def test_large_counters_are_summed_exactly():
    assert_same(weighted_mean([make_model(1, 2**40 + 1)] * 3, [1, 2, 3]), make_model(1, 2**40 + 1))


def test_mean_gives_no_say_to_weight_zero():
    assert_same(weighted_mean([make_model(1), make_model(2)], [0, 3]), make_model(2))


@pytest.mark.parametrize("mix", [weighted_mean, blend_flames])
@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({}, "'w' is missing"),
        ({"w": np.ones(2, np.float32), "b": np.ones(2)}, "'b' is not in the model"),
        ({"w": np.ones(1, np.float32)}, r"'w' has shape \(1,\), expected \(2,\)"),
        ({"w": np.ones((1, 2), np.float32)}, r"'w' has shape \(1, 2\), expected \(2,\)"),
        ({"w": np.ones(2)}, "'w' is float64, expected float32"),
    ],
)
def test_models_that_differ_are_rejected_not_broadcast(mix, other, problem):
    with pytest.raises(ValueError, match=f"weights 1 differ from weights 0: {problem}"):
        mix([{"w": np.ones(2, np.float32)}, other], [1, 1])
