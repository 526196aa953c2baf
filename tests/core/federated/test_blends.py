import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.blends import make_blend
from flames_cli.core.federated.reports import Entries, Report, State
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.fed.algorithms import ALGORITHMS

ENTRIES = Entries(
    trainable=frozenset({"conv.weight", "norm.weight"}),
    norm=frozenset({"norm.weight", "norm.mean", "norm.count"}),
)
VALUES = hnp.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
CLIENTS = st.lists(
    st.tuples(VALUES, VALUES, st.integers(1, 1000), st.integers(1, 50)), min_size=1, max_size=5
)


def weights(conv, norm, count=0):
    return {
        "conv.weight": np.asarray(conv, np.float32),
        "norm.weight": np.asarray(norm, np.float32),
        "norm.mean": np.asarray(norm, np.float32) / 2,
        "norm.count": np.array(count),
    }


def reports_of(clients):
    return [
        Report(f"c{i}", "MRI", weights(conv, norm, steps), n, steps)
        for i, (conv, norm, n, steps) in enumerate(clients)
    ]


def round_of(name, reports, start=None):
    state = State(0, {"all": start or weights(np.zeros(3), np.zeros(3))})
    return apply_round(state, reports, ALGORITHMS[name], ENTRIES).state


def fednova_by_hand(start, reports, name):
    """Return w - (Σ pᵢτᵢ)·Σ pᵢ(w - wᵢ)/τᵢ, as the paper has it."""
    total = sum(report.n_examples for report in reports)
    shares = [report.n_examples / total for report in reports]
    w = start[name].astype(np.float64)
    tau = sum(p * report.n_steps for p, report in zip(shares, reports, strict=True))
    d = sum(
        p * (w - report.weights[name]) / report.n_steps for p, report in zip(shares, reports, strict=True)
    )
    return w - tau * d


@settings(max_examples=50)
@given(CLIENTS, VALUES)
def test_fednova_in_one_pass_equals_its_formula(clients, value):
    start, sent = weights(value, value), reports_of(clients)
    server = round_of("fednova", sent, start).server["all"]
    mean = weighted_mean([one.weights for one in sent], [one.n_examples for one in sent])
    for name in ENTRIES.trainable:
        expected = fednova_by_hand(start, sent, name)
        np.testing.assert_allclose(server[name], expected, rtol=1e-5, atol=1e-3)
        assert server[name].dtype == np.float32
    for name in ("norm.mean", "norm.count"):
        np.testing.assert_array_equal(server[name], mean[name])


@settings(max_examples=50)
@given(CLIENTS, VALUES, st.integers(1, 1000))
def test_fednova_with_equal_steps_is_fedavg(clients, value, n_steps):
    sent = reports_of([(conv, norm, n, n_steps) for conv, norm, n, _ in clients])
    start = weights(value, value)
    nova, mean = (round_of(name, sent, start).server["all"] for name in ("fednova", "fedavg"))
    for name in start:
        np.testing.assert_allclose(nova[name], mean[name], rtol=1e-6, atol=1e-5)


def test_fednova_gives_a_client_of_many_steps_no_more_say_by_hand():
    sent = reports_of([([8, 8, 8], [0, 0, 0], 10, 8), ([-1, -1, -1], [0, 0, 0], 10, 1)])
    server = round_of("fednova", sent).server["all"]
    # Both move by 1 a step, in opposite directions: they cancel, where the mean would be 3.5.
    np.testing.assert_array_equal(server["conv.weight"], np.zeros(3))
    assert round_of("fedavg", sent).server["all"]["conv.weight"][0] == 3.5


@settings(max_examples=50)
@given(CLIENTS)
def test_fedbn_models_differ_in_batchnorm_only(clients):
    sent = reports_of(clients)
    state = round_of("fedbn", sent)
    mean = weighted_mean([one.weights for one in sent], [one.n_examples for one in sent])
    for name, array in mean.items():
        np.testing.assert_array_equal(state.server["all"][name], array)
    for one in sent:
        model = state.model_for(one.client, "all")
        for name, array in model.items():
            expected = one.weights[name] if name in ENTRIES.norm else mean[name]
            np.testing.assert_array_equal(array, expected)
            assert not np.shares_memory(array, one.weights[name])


def test_fedbn_stores_only_batchnorm_of_each_client():
    state = round_of("fedbn", reports_of([(np.ones(3), np.ones(3), 1, 1)] * 2))
    assert all(own.keys() == ENTRIES.norm for own in state.personal.values())


def test_a_fedbn_client_that_missed_a_round_gets_the_new_mean_with_its_own_batchnorm():
    first, second = reports_of([(np.ones(3), np.ones(3), 1, 1), (np.full(3, 5), np.full(3, 5), 1, 1)])
    state = round_of("fedbn", [first, second])
    later = apply_round(state, [second], ALGORITHMS["fedbn"], ENTRIES).state
    model = later.model_for(first.client, "all")
    np.testing.assert_array_equal(model["conv.weight"], second.weights["conv.weight"])
    np.testing.assert_array_equal(model["norm.weight"], first.weights["norm.weight"])


def test_a_fedbn_newcomer_gets_the_mean_of_everything():
    state = round_of(
        "fedbn", reports_of([(np.ones(3), np.ones(3), 1, 1), (np.full(3, 5), np.full(3, 5), 1, 1)])
    )
    np.testing.assert_array_equal(state.model_for("new", "all")["norm.weight"], np.full(3, 3))


@pytest.mark.parametrize(("weight", "expected"), [("examples", 1.3), ("steps", 3.4), ("uniform", 2.5)])
def test_a_report_counts_what_the_algorithm_says(weight, expected):
    blend = make_blend(
        Algorithm(local_update="plain", groups="all", blend="mean", weight=weight),
        weights([0] * 3, [0] * 3),
        ENTRIES,
    )
    for one in reports_of([([1] * 3, [0] * 3, 90, 4), ([4] * 3, [0] * 3, 10, 16)]):
        blend.add(one)
    np.testing.assert_allclose(blend.server()["conv.weight"], expected, rtol=1e-6)
    assert blend.personal() == {}


def test_flames_lets_every_report_go_as_its_model_is_made():
    blend = make_blend(ALGORITHMS["flames"], weights([0] * 3, [0] * 3), ENTRIES)
    sent = reports_of([([1] * 3, [0] * 3, 9, 4), ([4] * 3, [0] * 3, 1, 1)])
    held = [weakref.ref(one.weights["conv.weight"]) for one in sent]
    while sent:
        blend.add(sent.pop())
    blend.server()
    assert [array() for array in held] == [None, None]
    assert list(blend.personal()) == ["c0", "c1"]
