"""Rounds in which clients share only some entries, or report control variates and image decoders."""

from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import apply_round
from flames_cli.core.federated.reports import Entries
from flames_cli.core.rng import derive_rng
from flames_cli.fed.algorithms import ALGORITHMS
from tests.support.asserts import assert_same, assert_same_state
from tests.support.reports import make_report, start_state

EVERY_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys())
MODALITIES = {"brain-1": "MRI", "brain-2": "MRI", "breast": "US"}
PARAMETERS = frozenset({"conv.weight"})
NORM = frozenset({"norm.running_var", "norm.num_batches_tracked"})


def only(sent, names):
    """Return a report with these entries only."""
    chosen = {name: array for name, array in sent.weights.items() if name in names}
    control = {name: array for name, array in sent.control.items() if name in names & PARAMETERS}
    return replace(sent, weights=chosen, control=control)


@EVERY_ALGORITHM
@pytest.mark.parametrize("shared", [PARAMETERS, NORM, PARAMETERS | {"norm.running_var"}])
def test_entries_that_are_not_shared_stay_bit_for_bit(algorithm, shared, good_reports):
    entries = Entries(PARAMETERS, NORM, shared)
    before = start_state(algorithm)
    for weights in before.server.values():
        weights["conv.weight"] = derive_rng(0, "w").random((2, 3), np.float32)
    result = apply_round(before, [only(sent, shared) for sent in good_reports], algorithm, entries)
    assert result.rejected == {}
    for client, modality in MODALITIES.items():
        group = algorithm.model_group_of(client, modality)
        for got in (result.state.server[group], result.state.model_for(client, group)):
            for name, array in before.server[group].items():
                assert (got[name].tobytes() == array.tobytes()) == (name not in shared)
    for kinds in result.state.optimiser_state.values():
        assert all(weights.keys() == shared & PARAMETERS for weights in kinds.values())


@EVERY_ALGORITHM
def test_shared_entries_are_blended_as_if_they_were_all(algorithm, good_reports):
    shared = PARAMETERS | {"norm.running_var"}
    every = apply_round(
        start_state(algorithm), good_reports, algorithm, Entries(frozenset(shared), NORM)
    ).state
    sent = [replace(only(one, shared), control=one.control) for one in good_reports]
    part = apply_round(
        start_state(algorithm), sent, algorithm, Entries(frozenset(shared), NORM, shared)
    ).state
    for group, weights in every.server.items():
        assert_same(
            {name: part.server[group][name] for name in shared}, {name: weights[name] for name in shared}
        )


@EVERY_ALGORITHM
def test_a_report_with_more_or_fewer_entries_than_shared_is_rejected(algorithm, good_reports):
    entries = Entries(PARAMETERS, NORM, PARAMETERS | {"norm.running_var"})
    less = only(good_reports[0], PARAMETERS)
    result = apply_round(start_state(algorithm), [less, good_reports[1]], algorithm, entries)
    assert result.rejected == {
        "brain-1": "'norm.running_var' is missing",
        "brain-2": "'norm.num_batches_tracked' is not in the model",
    }


DECODER = Entries(PARAMETERS, NORM, style=PARAMETERS)


def test_a_lent_decoder_stays_until_the_next_one():
    algorithm = ALGORITHMS["fedavg"]
    style = {"conv.weight": np.full((2, 3), 7, np.float32)}
    state = apply_round(
        start_state(algorithm), [make_report("breast", 1, style=style)], algorithm, DECODER
    ).state
    later = apply_round(
        state, [make_report("breast", 2), make_report("brain-1", 1)], algorithm, DECODER
    ).state
    assert list(later.styles) == ["breast"]
    assert_same(later.styles["breast"], style)
    newer = {"conv.weight": style["conv.weight"] + 1}
    later = apply_round(later, [make_report("breast", 2, style=newer)], algorithm, DECODER).state
    assert_same(later.styles["breast"], newer)
    assert_same(state.styles["breast"], style)


@pytest.mark.parametrize(
    ("style", "problem"),
    [
        ({}, "'conv.weight' is missing"),
        ({"conv.weight": np.ones(2, np.float32)}, "'conv.weight' has shape (2,), expected (2, 3)"),
        (
            {"conv.weight": np.full((2, 3), np.nan, np.float32)},
            "'conv.weight' contains values that are not finite",
        ),
    ],
)
def test_a_decoder_that_does_not_fit_is_rejected(style, problem):
    algorithm = ALGORITHMS["fedavg"]
    result = apply_round(start_state(algorithm), [make_report("breast", 1, style=style)], algorithm, DECODER)
    assert result.rejected == {"breast": f"its image decoder: {problem}"}
    assert result.state.styles == {}


def test_a_decoder_that_was_not_asked_for_is_not_stored():
    algorithm = ALGORITHMS["fedavg"]
    result = apply_round(
        start_state(algorithm), [make_report("breast", 1, style={"x": np.ones(1)})], algorithm
    )
    assert (result.accepted, result.state.styles) == (("breast",), {})


def test_scaffold_adds_the_changes_over_all_clients_of_the_group():
    algorithm, entries = ALGORITHMS["scaffold"], Entries(PARAMETERS, NORM)
    changes = [{"conv.weight": np.full((2, 3), value, np.float32)} for value in (1, 5)]
    sent = [make_report("brain-1", 1, control=changes[0]), make_report("breast", 3, 99, control=changes[1])]
    state = apply_round(start_state(algorithm), sent, algorithm, entries, {"all": 4}).state
    assert_same(state.optimiser_state["all"]["control"], {"conv.weight": np.full((2, 3), 6 / 4, np.float32)})
    assert (state.server["all"]["conv.weight"] == 2).all()
    again = apply_round(state, sent[:1], algorithm, entries, {"all": 4}).state
    assert_same(again.optimiser_state["all"]["control"], {"conv.weight": np.full((2, 3), 7 / 4, np.float32)})
    alone = apply_round(start_state(algorithm), sent, algorithm, entries).state
    assert_same(alone.optimiser_state["all"]["control"], {"conv.weight": np.full((2, 3), 3, np.float32)})


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (None, "it reports no control variate, which SCAFFOLD needs; install the same version everywhere"),
        ({}, "its control variate: 'conv.weight' is missing"),
        (
            {"conv.weight": np.ones((2, 3), np.float32), "norm.running_var": np.ones(3, np.float32)},
            "its control variate: 'norm.running_var' is not in the model",
        ),
        ({"conv.weight": np.ones((2, 3))}, "its control variate: 'conv.weight' is float64, expected float32"),
        (
            {"conv.weight": np.full((2, 3), np.inf, np.float32)},
            "its control variate: 'conv.weight' contains values that are not finite",
        ),
    ],
)
def test_a_control_variate_that_does_not_fit_is_rejected(control, reason):
    algorithm, entries = ALGORITHMS["scaffold"], Entries(PARAMETERS, NORM)
    good = make_report("brain-1", 2, control={"conv.weight": np.ones((2, 3), np.float32)})
    result = apply_round(
        start_state(algorithm), [make_report("breast", 1, control=control), good], algorithm, entries
    )
    assert result.rejected == {"breast": reason}
    assert_same_state(result.state, apply_round(start_state(algorithm), [good], algorithm, entries).state)


def test_a_report_that_changed_a_frozen_entry_is_rejected(good_reports):
    algorithm = ALGORITHMS["fedavg"]
    entries = Entries(PARAMETERS - {"conv.weight"}, NORM, frozen=frozenset({"conv.weight"}))
    result = apply_round(start_state(algorithm), good_reports, algorithm, entries)
    assert all("it changed 'conv.weight', which is frozen" in reason for reason in result.rejected.values())
    assert not result.accepted
