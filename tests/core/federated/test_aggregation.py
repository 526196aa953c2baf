import copy
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.choice import Choice
from flames_cli.core.federated.flames_blend import blend_flames
from flames_cli.core.federated.reports import Entries, Report, State
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.core.rng import derive_rng
from flames_cli.fed.algorithms import ALGORITHMS
from tests.support.asserts import assert_same, assert_same_state
from tests.support.reports import make_model, make_report, start_state

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "fedgs.npz"

EVERY_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())
MODALITIES = {"brain-1": "MRI", "brain-2": "MRI", "breast": "US"}
PARAMETERS = frozenset({"conv.weight"})
NORM = frozenset({"norm.running_var", "norm.num_batches_tracked"})


@EVERY_ALGORITHM
def test_a_client_with_nan_is_rejected_by_name_and_the_others_continue(algorithm, good_reports):
    state = start_state(algorithm)
    bad, *others = [make_report("brain-1", np.nan), *good_reports[1:]]
    result = apply_round(state, [bad, *others], algorithm)
    assert result.accepted == ("brain-2", "breast")
    assert result.rejected == {"brain-1": "'conv.weight' contains values that are not finite"}
    assert_same_state(result.state, apply_round(state, others, algorithm).state)


@EVERY_ALGORITHM
def test_a_client_of_an_unknown_group_is_rejected(algorithm):
    state = State(0, {"elsewhere": make_model(0)})
    result = apply_round(state, [make_report("breast", 1)], algorithm)
    group = algorithm.model_group_of("breast", "US")
    assert result.rejected == {"breast": f"there is no model for '{group}', expected one of ['elsewhere']"}
    assert_same_state(result.state, State(1, {"elsewhere": make_model(0)}))


@EVERY_ALGORITHM
def test_a_second_report_of_one_client_is_rejected(algorithm, good_reports):
    state = start_state(algorithm)
    result = apply_round(state, [*good_reports, make_report("breast", 99)], algorithm)
    assert result.rejected == {"breast": "it reported twice in one round"}
    assert_same_state(result.state, apply_round(state, good_reports, algorithm).state)


@EVERY_ALGORITHM
def test_a_group_without_a_good_report_is_unchanged(algorithm, good_reports):
    state = apply_round(start_state(algorithm), good_reports, algorithm).state
    result = apply_round(state, [make_report("breast", 1, n_examples=0)], algorithm)
    assert result.accepted == ()
    assert_same_state(result.state, replace(state, round=7))


@EVERY_ALGORITHM
def test_a_round_counts_and_leaves_its_state_unchanged(algorithm, good_reports):
    state = start_state(algorithm)
    before, reports = copy.deepcopy(state), copy.deepcopy(good_reports)
    result = apply_round(state, iter(reports), algorithm)
    assert result.state.round == 6
    assert result.rejected == {}
    assert result.accepted == ("brain-1", "brain-2", "breast")
    assert_same_state(state, before)
    for got, sent in zip(reports, good_reports, strict=True):
        assert_same(got.weights, sent.weights)
        assert_same(got.control, sent.control)


@EVERY_ALGORITHM
def test_a_round_ignores_the_order_of_reports(algorithm, good_reports):
    state = start_state(algorithm)
    forth, back = (apply_round(state, order, algorithm).state for order in (good_reports, good_reports[::-1]))
    assert_same_state(back, forth, atol=1e-6)


@EVERY_ALGORITHM
def test_only_flames_holds_more_than_one_report_at_a_time(algorithm, good_reports):
    if algorithm.blend in ("flames", "adaptive"):
        kept = apply_round(start_state(algorithm), good_reports, algorithm).state.personal
        assert sorted(kept) == sorted(MODALITIES), "only what becomes a whole model may be kept"
        return
    alive = []

    def stream():
        for client in MODALITIES:
            assert not any(ref() is not None for ref in alive)
            sent = make_report(client, 1)
            alive.append(weakref.ref(sent.weights["conv.weight"]))
            yield sent
            del sent

    assert len(apply_round(start_state(algorithm), stream(), algorithm).accepted) == 3


def test_fedavg_is_one_mean_by_examples(good_reports):
    server = apply_round(start_state(ALGORITHMS["fedavg"]), good_reports, ALGORITHMS["fedavg"]).state.server
    assert list(server) == ["all"]
    assert_same(server["all"], make_model((1 * 10 + 2 * 30 + 4 * 60) / 100, 8), rtol=1e-6)


def test_fedavg_modality_never_mixes_modalities(good_reports):
    algorithm = ALGORITHMS["fedavg-modality"]
    server = apply_round(start_state(algorithm), good_reports, algorithm).state.server
    assert_same(server["MRI"], make_model((1 * 10 + 2 * 30) / 40, 6), rtol=1e-6)
    assert_same(server["US"], make_model(4, 9))


def test_local_leaves_every_client_its_own_weights(good_reports):
    algorithm = ALGORITHMS["local"]
    state = apply_round(start_state(algorithm), good_reports, algorithm).state
    for sent in good_reports:
        assert_same(
            state.model_for(sent.client, algorithm.model_group_of(sent.client, sent.modality)), sent.weights
        )


def test_a_flames_round_equals_its_blend_by_modality(good_reports):
    algorithm, sent = ALGORITHMS["flames"], good_reports
    state = apply_round(start_state(algorithm), sent, algorithm).state
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


def test_the_personalised_model_of_a_rejected_client_is_unchanged(good_reports):
    algorithm = ALGORITHMS["flames"]
    state = apply_round(start_state(algorithm), good_reports, algorithm).state
    later = apply_round(state, [make_report("brain-1", np.inf), make_report("brain-2", 9)], algorithm).state
    assert_same(later.model_for("brain-1", "MRI"), state.model_for("brain-1", "MRI"))
    assert_same(later.model_for("brain-2", "MRI"), make_model(9))


def test_local_and_fedavg_have_no_optimiser_state(good_reports):
    for name in ("local", "fedavg", "flames"):
        state = apply_round(start_state(ALGORITHMS[name]), good_reports, ALGORITHMS[name]).state
        assert (state.optimiser_state, state.styles) == ({}, {})


def test_entries_keep_the_order_of_the_model(good_reports):
    for algorithm in ALGORITHMS.values():
        before = start_state(algorithm)
        after = apply_round(before, good_reports, algorithm).state
        for group, weights in before.server.items():
            assert list(after.server[group]) == list(weights)
        for client, modality in MODALITIES.items():
            ours = after.model_for(client, algorithm.model_group_of(client, modality))
            assert list(ours) == list(good_reports[0].weights)


@pytest.mark.parametrize("name", ["fedgs", "fedgs-unscaled", "fednova"])
@pytest.mark.parametrize("n_steps", [0, -1])
def test_a_report_without_steps_is_rejected_where_they_count(name, n_steps):
    result = apply_round(
        start_state(ALGORITHMS[name]), [make_report("breast", 1, n_steps=n_steps)], ALGORITHMS[name]
    )
    assert result.rejected == {"breast": f"it reports {n_steps} steps, expected more than 0"}


@pytest.mark.skipif(not GOLDEN.exists(), reason="the shared golden vectors are not here")
def test_a_fedgs_round_matches_the_authors():
    golden = np.load(GOLDEN)
    layers = ["l0", "l1"]
    start = {layer: golden[f"start_{layer}"] for layer in layers}
    sent = [
        Report(
            f"c{client}",
            "MRI",
            {layer: start[layer] - golden[f"c{client}_cum_grad_{layer}"] for layer in layers},
            n_examples=100 - client,
            n_steps=int(n_steps),
        )
        for client, n_steps in enumerate(golden["steps"])
    ]
    server = apply_round(State(0, {"all": start}), sent, ALGORITHMS["fedgs"]).state.server
    assert_same(server["all"], {layer: golden[f"global_{layer}"] for layer in layers}, 1e-6, 1e-6)


def test_fedgs_averages_buffers_by_steps_too():
    sent = [
        make_report("brain-1", 1, 90, counter=10, n_steps=1),
        make_report("breast", 5, 10, counter=30, n_steps=3),
    ]
    server = apply_round(start_state(ALGORITHMS["fedgs"]), sent, ALGORITHMS["fedgs"]).state.server
    assert_same(server["all"], make_model(4, 25))


def test_flames_fedgs_blends_reports_as_flames_does(good_reports):
    states = [
        apply_round(start_state(ALGORITHMS[name]), good_reports, ALGORITHMS[name]).state
        for name in ("flames", "flames-fedgs")
    ]
    assert_same_state(*states)


def test_fedprox_blends_reports_as_fedavg_does(good_reports):
    states = [
        apply_round(start_state(ALGORITHMS[name]), good_reports, ALGORITHMS[name]).state
        for name in ("fedavg", "fedprox")
    ]
    assert_same_state(*states)


def test_more_reports_than_clients_are_a_fault_in_the_program(good_reports):
    with pytest.raises(ValueError, match="got 3 reports of a group of 2 clients"):
        apply_round(
            start_state(ALGORITHMS["scaffold"]), good_reports, ALGORITHMS["scaffold"], None, {"all": 2}
        )


def test_scaffold_without_changes_is_the_uniform_mean(good_reports):
    algorithm = ALGORITHMS["scaffold"]
    still = [
        replace(one, control={name: np.zeros_like(array) for name, array in one.control.items()})
        for one in good_reports
    ]
    state = apply_round(start_state(algorithm), still, algorithm).state
    assert_same(state.server["all"], weighted_mean([one.weights for one in still], [1, 1, 1]))
    assert all((array == 0).all() for array in state.optimiser_state["all"]["control"].values())


@pytest.mark.parametrize("name", [name for name, one in ALGORITHMS.items() if one.server == "replace"])
def test_without_momentum_a_round_is_plain(name, good_reports):
    algorithm = ALGORITHMS[name]
    plain = apply_round(start_state(algorithm), good_reports, algorithm).state
    none = apply_round(start_state(algorithm), good_reports, replace(algorithm, server_momentum=0.0)).state
    assert_same_state(none, plain)
    # The first step with momentum is a plain one too: there is no velocity yet.
    first = apply_round(start_state(algorithm), good_reports, replace(algorithm, server_momentum=0.9)).state
    for group, weights in plain.server.items():
        assert_same_state(
            State(0, {"": {n: first.server[group][n] for n in weights}}), State(0, {"": weights}), atol=1e-6
        )
        assert "momentum" in first.optimiser_state[group]


def test_momentum_continues_from_earlier_rounds():
    algorithm = replace(ALGORITHMS["fedavg"], server_momentum=0.5)
    entries = Entries(PARAMETERS, NORM)
    state = apply_round(start_state(algorithm), [make_report("breast", 1.5)], algorithm, entries).state
    state = apply_round(state, [make_report("breast", 2.5)], algorithm, entries).state
    # v = -1, then 0.5 * -1 - 1 = -1.5: w = 1.5 + 1.5; buffers have no momentum.
    expected = {**make_model(2.5), "conv.weight": np.full((2, 3), 3, np.float32)}
    assert_same(state.server["all"], expected)
    assert_same(state.optimiser_state["all"]["momentum"], {"conv.weight": np.full((2, 3), -1.5, np.float32)})


def test_fedadam_leaves_buffers_the_plain_mean(good_reports):
    entries = Entries(PARAMETERS, NORM)
    fedavg, fedadam = (
        apply_round(start_state(ALGORITHMS[name]), good_reports, ALGORITHMS[name], entries).state
        for name in ("fedavg", "fedadam")
    )
    for name in NORM:
        np.testing.assert_array_equal(fedadam.server["all"][name], fedavg.server["all"][name])
    assert (fedadam.server["all"]["conv.weight"] != fedavg.server["all"]["conv.weight"]).all()
    assert fedadam.optimiser_state["all"].keys() == {"adam_m", "adam_v"}


def test_scaffold_may_have_momentum_in_addition_to_its_controls(good_reports):
    algorithm = replace(ALGORITHMS["scaffold"], server_momentum=0.9)
    state = apply_round(start_state(algorithm), good_reports, algorithm).state
    assert state.optimiser_state["all"].keys() == {"momentum", "control"}


def test_personal_models_of_flames_have_no_server_momentum(good_reports):
    algorithm = ALGORITHMS["flames"]
    plain = apply_round(start_state(algorithm), good_reports, algorithm).state
    moved = plain
    for momentum in (0.0, 0.9):
        moved = apply_round(moved, good_reports, replace(algorithm, server_momentum=momentum)).state
        for client, weights in plain.personal.items():
            assert_same(moved.personal[client], weights)


EMA = 0.75


def rounds_of(algorithm, reports, n=3):
    state = start_state(algorithm)
    for number in range(n):
        sent = [
            replace(
                one,
                weights={k: (a * (number + 1)).astype(a.dtype) for k, a in one.weights.items()},
                choice=Choice("flames") if state.candidates(one.modality).offers(one.client) else None,
            )
            for one in reports
        ]
        state = apply_round(state, sent, algorithm).state
    return state


@EVERY_ALGORITHM
def test_an_average_changes_no_model_that_is_trained(algorithm, good_reports):
    plain = rounds_of(algorithm, good_reports)
    averaged = rounds_of(replace(algorithm, ema=EMA), good_reports)
    kinds = {
        name: {k: w for k, w in found.items() if "ema" not in k}
        for name, found in averaged.optimiser_state.items()
    }
    bare = replace(averaged, optimiser_state={name: found for name, found in kinds.items() if found})
    assert_same_state(bare, plain)
    for client, modality in MODALITIES.items():
        group = algorithm.model_group_of(client, modality)
        assert_same(averaged.model_for(client, group), plain.model_for(client, group))


@EVERY_ALGORITHM
def test_the_average_is_used_by_the_server_and_by_clients_without_entries_of_their_own(
    algorithm, good_reports
):
    state = rounds_of(replace(algorithm, ema=EMA), good_reports)
    for client, modality in MODALITIES.items():
        group = algorithm.model_group_of(client, modality)
        used = state.final_server_model(group, modality)
        assert list(used) == list(state.server[group])
        assert_same({**used, **state.optimiser_state[group]["ema"]}, used)
        assert not np.array_equal(used["conv.weight"], state.server[group]["conv.weight"])
        own = state.personal.get(client)
        expected = used if own is None else state.model_for(client, group)
        if algorithm.clients_choose:
            expected = state.candidates(group).expected(client)
        assert_same(state.final_model_for(client, group), expected)


def test_the_average_of_a_group_counts_only_rounds_with_good_reports(good_reports):
    algorithm = replace(ALGORITHMS["fedavg-modality"], ema=0.5)
    state = apply_round(start_state(algorithm), good_reports, algorithm).state
    state = apply_round(state, [make_report("brain-1", 3.0)], algorithm).state
    rounds = {group: int(kinds["ema_rounds"]["rounds"]) for group, kinds in state.optimiser_state.items()}
    assert rounds == {"MRI": 2, "US": 1}
    assert_same(
        state.optimiser_state["US"]["ema"],
        {name: array for name, array in state.server["US"].items() if array.dtype == np.float32},
    )


def test_the_average_has_only_shared_entries(good_reports):
    algorithm = replace(ALGORITHMS["fedavg"], ema=0.5)
    entries = Entries(PARAMETERS, NORM, PARAMETERS)
    sent = [replace(one, weights={"conv.weight": one.weights["conv.weight"]}) for one in good_reports]
    state = apply_round(start_state(algorithm), sent, algorithm, entries).state
    assert state.optimiser_state["all"]["ema"].keys() == PARAMETERS
    assert state.used_server_model("all").keys() == state.server["all"].keys()
