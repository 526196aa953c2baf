import copy
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.aggregation import (
    Report,
    State,
    apply_round,
    blend_flames,
    find_difference,
    flames_alpha,
    refuse,
    weighted_mean,
)
from flames_cli.core.rng import derive_rng
from flames_cli.fed.algorithms import ALGORITHMS

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "flames_aggregation.npz"

VALUES = hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
CLIENTS = st.lists(st.tuples(VALUES, st.integers(1, 10_000)), min_size=1, max_size=6)
EVERY_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())
MODALITIES = {"brain-1": "MRI", "brain-2": "MRI", "breast": "US"}


def model(value, counter=0):
    return {
        "conv.weight": np.full((2, 3), value, np.float32),
        "norm.running_var": np.full(3, value, np.float32),
        "norm.num_batches_tracked": np.array(counter, np.int64),
    }


def report(client, value, n_examples=10, counter=0):
    return Report(client, MODALITIES[client], model(value, counter), n_examples)


def good_reports():
    return [report("brain-1", 1, 10, 4), report("brain-2", 2, 30, 7), report("breast", 4, 60, 9)]


def start(algorithm):
    groups = {algorithm.group_of(client, modality) for client, modality in MODALITIES.items()}
    return State(5, {group: model(0.5) for group in groups}, {})


def assert_same(got, expected, rtol=0.0, atol=0.0):
    assert find_difference(got, expected) is None
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol, atol, err_msg=name)


def assert_same_state(got, expected, atol=0.0):
    assert got.round == expected.round
    for models, others in ((got.server, expected.server), (got.personal, expected.personal)):
        assert models.keys() == others.keys()
        for name in others:
            assert_same(models[name], others[name], atol=atol)


def personalised_by_hand(values, counts):
    """The definition, in O(K²)."""
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
    personalised, server = blend_flames([model(3, 8)], [7])
    assert flames_alpha(1) == 1.0
    assert_same(personalised[0], model(3, 8))
    assert_same(server, model(3, 8))


def test_blend_of_one_client_has_nobody_to_give_a_share():
    personalised, _ = blend_flames([model(3)], [7], alpha=0.25)
    assert_same(personalised[0], model(3))


def test_blend_of_two_clients_by_hand():
    personalised, server = blend_flames([model(1), model(3)], [10, 90])
    assert_same(personalised[0], model(0.6 * 1 + 0.4 * 3), rtol=1e-6)
    assert_same(personalised[1], model(0.6 * 3 + 0.4 * 1), rtol=1e-6)
    assert_same(server, model(2))


def test_blend_of_five_clients_by_hand():
    personalised, server = blend_flames([model(v) for v in (10, 1, 2, 3, 4)], [1, 2, 4, 4, 4])
    assert_same(personalised[0], model(0.3 * 10 + 0.7 * (0.4 * 1 + 0.2 * (2 + 3 + 4))), rtol=1e-6)
    assert_same(server, model(4))


@settings(deadline=None, max_examples=50)
@given(CLIENTS.filter(lambda clients: len(clients) > 1))
def test_blend_in_one_pass_equals_the_definition(clients):
    values, counts = zip(*clients, strict=True)
    personalised, server = blend_flames([{"w": value} for value in values], counts)
    for got, expected in zip(personalised, personalised_by_hand(values, counts), strict=True):
        np.testing.assert_allclose(got["w"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(server["w"], np.mean(values, axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(CLIENTS, st.randoms(use_true_random=False))
def test_blend_ignores_client_order(clients, random):
    order = random.sample(range(len(clients)), len(clients))
    arrays, counts = [{"w": value} for value, _ in clients], [n for _, n in clients]
    personalised, server = blend_flames(arrays, counts)
    moved, moved_server = blend_flames([arrays[i] for i in order], [counts[i] for i in order])
    for place, i in enumerate(order):
        assert_same(moved[place], personalised[i], 1e-5, 1e-5)
    assert_same(moved_server, server, 1e-5, 1e-5)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_equal_clients_blend_to_the_same_weights(value, counts):
    personalised, server = blend_flames([{"w": value}] * len(counts), counts)
    for weights in (*personalised, server, weighted_mean([{"w": value}] * len(counts), counts)):
        assert_same(weights, {"w": value}, 1e-6, 1e-6)


@settings(deadline=None, max_examples=50)
@given(CLIENTS, st.floats(0, 1))
def test_blends_stay_between_the_clients(clients, alpha):
    values, counts = zip(*clients, strict=True)
    arrays = [{"w": value} for value in values]
    personalised, server = blend_flames(arrays, counts, alpha)
    for weights in (*personalised, server, weighted_mean(arrays, counts)):
        assert (weights["w"] >= np.min(values, axis=0) - 1e-4).all()
        assert (weights["w"] <= np.max(values, axis=0) + 1e-4).all()


def test_counters_stay_int64_and_batchnorm_statistics_take_part():
    personalised, server = blend_flames([model(0, 10), model(4, 13)], [10, 10])
    assert_same(server, model(2, 12))
    assert_same(personalised[0], model(1.6, 11), rtol=1e-6)
    assert_same(weighted_mean([model(0, 10), model(4, 14)], [3, 1]), model(1, 11))


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
    arrays = [model(i, i) for i in range(k)]
    before = copy.deepcopy(arrays)
    personalised, server = blend_flames(arrays, [5] * k)
    mean = weighted_mean(arrays, [5] * k)
    for weights in (*personalised, server, mean):
        for name, array in weights.items():
            assert not any(np.shares_memory(array, entry[name]) for entry in arrays)
    for entry, original in zip(arrays, before, strict=True):
        assert_same(entry, original)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_0_to_1_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha is .*, expected a number in \[0, 1\]"):
        blend_flames([model(1), model(2)], [1, 1], alpha)


@pytest.mark.parametrize("counts", [[0, 1], [-2, 1]])
def test_blend_refuses_clients_without_examples(counts):
    with pytest.raises(ValueError, match="must all be above 0"):
        blend_flames([model(1), model(2)], counts)


@pytest.mark.parametrize("mix", [weighted_mean, blend_flames])
@pytest.mark.parametrize("counts", [[], [1, 2]])
def test_nothing_or_too_few_models_are_refused(mix, counts):
    with pytest.raises(
        ValueError, match=f"got {min(len(counts), 1)} sets of weights and {len(counts)} counts"
    ):
        mix([model(1)][: len(counts)], counts)


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1], [float("inf"), 1]])
def test_mean_refuses_weights_that_cannot_weigh(weights):
    with pytest.raises(ValueError, match="must be finite, not negative, and sum to more than 0"):
        weighted_mean([model(1), model(2)], weights)


def test_large_counters_are_summed_exactly():
    assert_same(weighted_mean([model(1, 2**40 + 1)] * 3, [1, 2, 3]), model(1, 2**40 + 1))


def test_mean_gives_no_say_to_weight_zero():
    assert_same(weighted_mean([model(1), model(2)], [0, 3]), model(2))


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
def test_models_that_differ_are_refused_not_broadcast(mix, other, problem):
    with pytest.raises(ValueError, match=f"weights 1 differ from weights 0: {problem}"):
        mix([{"w": np.ones(2, np.float32)}, other], [1, 1])


@pytest.mark.parametrize(
    ("change", "n_examples", "reason"),
    [
        ({}, 0, "it reports 0 examples, expected more than 0"),
        ({}, -3, "it reports -3 examples, expected more than 0"),
        ({"conv.bias": np.ones(2)}, 1, "'conv.bias' is not in the model"),
        ({"norm.running_var": np.ones(1, np.float32)}, 1, "'norm.running_var' has shape (1,), expected (3,)"),
        (
            {"norm.num_batches_tracked": np.array(0.0)},
            1,
            "'norm.num_batches_tracked' is float64, expected int64",
        ),
        (
            {"conv.weight": np.full((2, 3), np.nan, np.float32)},
            1,
            "'conv.weight' holds values that are not finite",
        ),
        (
            {"conv.weight": np.full((2, 3), -np.inf, np.float32)},
            1,
            "'conv.weight' holds values that are not finite",
        ),
    ],
)
def test_a_bad_report_is_refused_with_its_reason(change, n_examples, reason):
    assert refuse(Report("breast", "US", {**model(1), **change}, n_examples), model(0)) == reason


def test_only_a_report_that_lacks_nothing_is_taken():
    assert refuse(report("breast", 1), model(0)) is None
    assert refuse(Report("breast", "US", {}, 1), model(0)) == "'conv.weight' is missing"


@EVERY_ALGORITHM
def test_a_nan_client_is_refused_by_name_and_the_others_go_on(algorithm):
    state = start(algorithm)
    bad, *others = [report("brain-1", np.nan), *good_reports()[1:]]
    result = apply_round(state, [bad, *others], algorithm)
    assert result.accepted == ("brain-2", "breast")
    assert result.refused == {"brain-1": "'conv.weight' holds values that are not finite"}
    assert_same_state(result.state, apply_round(state, others, algorithm).state)


@EVERY_ALGORITHM
def test_a_client_of_an_unknown_group_is_refused(algorithm):
    state = State(0, {"elsewhere": model(0)})
    result = apply_round(state, [report("breast", 1)], algorithm)
    group = algorithm.group_of("breast", "US")
    assert result.refused == {"breast": f"there is no model for '{group}', expected one of ['elsewhere']"}
    assert_same_state(result.state, State(1, {"elsewhere": model(0)}))


@EVERY_ALGORITHM
def test_a_second_report_of_one_client_is_refused(algorithm):
    state = start(algorithm)
    result = apply_round(state, [*good_reports(), report("breast", 99)], algorithm)
    assert result.refused == {"breast": "it reported twice in one round"}
    assert_same_state(result.state, apply_round(state, good_reports(), algorithm).state)


@EVERY_ALGORITHM
def test_a_group_without_a_good_report_keeps_its_model(algorithm):
    state = apply_round(start(algorithm), good_reports(), algorithm).state
    result = apply_round(state, [report("breast", 1, n_examples=0)], algorithm)
    assert result.accepted == ()
    assert_same_state(result.state, State(7, state.server, state.personal))


@EVERY_ALGORITHM
def test_a_round_counts_and_leaves_its_state_unchanged(algorithm):
    state = start(algorithm)
    before, reports = copy.deepcopy(state), good_reports()
    result = apply_round(state, iter(reports), algorithm)
    assert result.state.round == 6
    assert result.refused == {}
    assert result.accepted == ("brain-1", "brain-2", "breast")
    assert_same_state(state, before)
    for got, sent in zip(reports, good_reports(), strict=True):
        assert_same(got.weights, sent.weights)


@EVERY_ALGORITHM
def test_a_round_ignores_the_order_of_reports(algorithm):
    state = start(algorithm)
    forth, back = (
        apply_round(state, order, algorithm).state for order in (good_reports(), good_reports()[::-1])
    )
    assert_same_state(back, forth, atol=1e-6)


@EVERY_ALGORITHM
def test_a_mean_holds_one_report_at_a_time(algorithm):
    if algorithm.blend != "mean":
        kept = apply_round(start(algorithm), good_reports(), algorithm).state.personal
        assert sorted(kept) == sorted(MODALITIES), "only what personalises may keep every report"
        return
    alive = []

    def stream():
        for client in MODALITIES:
            # The caller still holds the report before this one; those before it must be gone.
            assert sum(ref() is not None for ref in alive) <= 1
            sent = report(client, 1)
            alive.append(weakref.ref(sent.weights["conv.weight"]))
            yield sent
            del sent

    assert len(apply_round(start(algorithm), stream(), algorithm).accepted) == 3


def test_fedavg_is_one_mean_by_examples():
    server = apply_round(start(ALGORITHMS["fedavg"]), good_reports(), ALGORITHMS["fedavg"]).state.server
    assert list(server) == ["all"]
    assert_same(server["all"], model((1 * 10 + 2 * 30 + 4 * 60) / 100, 8), rtol=1e-6)


def test_fedavg_modality_never_mixes_modalities():
    algorithm = ALGORITHMS["fedavg-modality"]
    server = apply_round(start(algorithm), good_reports(), algorithm).state.server
    assert_same(server["MRI"], model((1 * 10 + 2 * 30) / 40, 6), rtol=1e-6)
    assert_same(server["US"], model(4, 9))


def test_local_leaves_every_client_its_own_weights():
    algorithm = ALGORITHMS["local"]
    state = apply_round(start(algorithm), good_reports(), algorithm).state
    for sent in good_reports():
        assert_same(
            state.model_for(sent.client, algorithm.group_of(sent.client, sent.modality)), sent.weights
        )


def test_a_flames_round_equals_its_blend_by_modality():
    algorithm, sent = ALGORITHMS["flames"], good_reports()
    state = apply_round(start(algorithm), sent, algorithm).state
    personalised, server = blend_flames([sent[0].weights, sent[1].weights], [10, 30])
    assert_same_state(
        state,
        State(
            6,
            {"MRI": server, "US": sent[2].weights},
            {"brain-1": personalised[0], "brain-2": personalised[1], "breast": sent[2].weights},
        ),
    )


def test_a_flames_round_is_bit_for_bit_the_same_in_any_order():
    algorithm = ALGORITHMS["flames"]
    sent = [Report(f"c{i}", "MRI", {"w": derive_rng(0, i).random(50)}, i) for i in (3, 7, 1, 9)]
    state = State(0, {"MRI": {"w": np.zeros(50)}})
    by_name = sorted(sent, key=lambda one: one.client)
    assert_same_state(apply_round(state, sent, algorithm).state, apply_round(state, by_name, algorithm).state)


def test_a_refused_client_keeps_its_personalised_model():
    algorithm = ALGORITHMS["flames"]
    state = apply_round(start(algorithm), good_reports(), algorithm).state
    later = apply_round(state, [report("brain-1", np.inf), report("brain-2", 9)], algorithm).state
    assert_same(later.model_for("brain-1", "MRI"), state.model_for("brain-1", "MRI"))
    assert_same(later.model_for("brain-2", "MRI"), model(9))


def test_a_client_without_a_personalised_model_starts_from_its_group():
    state = State(0, {"MRI": model(1)}, {"brain-1": model(2)})
    assert state.model_for("brain-1", "MRI") is state.personal["brain-1"]
    assert state.model_for("brain-2", "MRI") is state.server["MRI"]
