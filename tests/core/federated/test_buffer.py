from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.aggregation import PLAIN, RoundSettings, apply_round
from flames_cli.core.federated.buffer import Buffer
from flames_cli.core.federated.buffering import Buffering
from flames_cli.core.federated.progress import Training
from flames_cli.core.federated.reports import Entries, State
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.fed.algorithms import get_algorithm
from tests.support.asserts import assert_same
from tests.support.reports import make_model, make_report

CLIENTS = ("brain-1", "brain-2")
ENTRIES = Entries(
    frozenset({"conv.weight"}),
    frozenset({"norm.running_var", "norm.num_batches_tracked"}),
    variances=frozenset({"norm.running_var"}),
)


def make_state(value=1.0, round_=0):
    return State(round_, {"MRI": make_model(value)})


def make_buffer(state, strategy="fedavg-modality", size=2, exponent=0.5, settings=PLAIN):
    algorithm = replace(get_algorithm(strategy), buffering=Buffering(size, exponent))
    return Buffer(state, algorithm, ENTRIES, settings)


def add(buffer, client, value, start=1.0, began=0, number=1, **report):
    training = Training(number, began, "")
    return buffer.add(make_report(client, value, round=number, **report), training, lambda: make_model(start))


@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality", "flames-fedgs"])
def test_fresh_reports_of_all_clients_give_the_bits_of_a_round_in_step(strategy):
    state = make_state()
    buffer = make_buffer(state, strategy)
    add(buffer, "brain-2", 0.3, n_examples=7)
    add(buffer, "brain-1", 0.1, n_examples=11)
    reports = [make_report("brain-1", 0.1, n_examples=11), make_report("brain-2", 0.3, n_examples=7)]
    expected = apply_round(state, reports, get_algorithm(strategy), ENTRIES).state
    made = buffer.flush({"MRI": 2}).state
    assert made.round == 1
    assert_same(made.server["MRI"], expected.server["MRI"])
    assert set(made.personal) == set(expected.personal)
    for client in made.personal:
        assert_same(made.personal[client], expected.personal[client])
    assert {name: last.round for name, last in made.clients.items()} == dict.fromkeys(CLIENTS, 1)


def test_a_buffer_is_full_with_its_number_of_reports_of_any_clients():
    buffer = make_buffer(make_state(), size=3)
    for number in (1, 2, 3):
        assert not buffer.is_full
        add(buffer, "brain-1", 2.0, number=number)
    assert buffer.is_full


def test_a_mean_moves_by_the_weighted_differences_from_the_models_with_which_clients_began():
    buffer = make_buffer(make_state(5.0, round_=3), exponent=1.0)
    add(buffer, "brain-1", 5.5, start=5.0, began=3, n_examples=10)  # fresh: +0.5
    add(buffer, "brain-2", 3.0, start=1.0, began=0, n_examples=30)  # stale by 3: +2 / 4
    made = buffer.flush({"MRI": 2}).state.server["MRI"]
    np.testing.assert_allclose(made["conv.weight"], 5.0 + (10 * 0.5 + 30 * 0.5) / 40)
    # A running variance moves towards the reported one, which is below that of the newest model.
    np.testing.assert_allclose(made["norm.running_var"], (10 * 5.5 + 30 * (5.0 + (3.0 - 5.0) / 4)) / 40)


def test_both_reports_of_a_fast_client_count_in_a_mean():
    buffer = make_buffer(make_state(0.0))
    add(buffer, "brain-1", 1.0, start=0.0, number=1)
    add(buffer, "brain-1", 3.0, start=0.0, number=2)
    result = buffer.flush({"MRI": 2})
    np.testing.assert_allclose(result.state.server["MRI"]["conv.weight"], 2.0)
    assert result.accepted == ("brain-1",)
    assert result.state.clients["brain-1"].round == 2


def test_flames_keeps_the_newest_report_of_each_client_with_its_weight():
    first = make_buffer(make_state(0.0), "flames", size=2, exponent=1.0)
    add(first, "brain-1", 1.0)
    add(first, "brain-2", 2.0)
    second = make_buffer(first.flush({"MRI": 2}).state, "flames", size=2, exponent=1.0)
    add(second, "brain-1", 3.0, began=1, number=2)
    add(second, "brain-1", 4.0, began=1, number=3)
    made = second.flush({"MRI": 2}).state
    # The report of brain-2 began with version 0, one version before the newest.
    np.testing.assert_allclose(made.server["MRI"]["conv.weight"], (4.0 + 2.0 / 2) / 1.5, rtol=1e-6)
    np.testing.assert_allclose(made.personal["brain-2"]["conv.weight"], 0.6 * 2 + 0.4 * 4, rtol=1e-6)
    assert {name: one.began for name, one in made.progress.newest.items()} == {"brain-1": 1, "brain-2": 0}


def test_a_client_whose_report_waits_trains_its_own_blend_of_it():
    first = make_buffer(make_state(0.0), "flames", size=2)
    add(first, "brain-1", 1.0)
    add(first, "brain-2", 2.0)
    buffer = make_buffer(first.flush({"MRI": 2}).state, "flames", size=2)
    name, before = buffer.model_of("brain-1", "MRI")
    np.testing.assert_allclose(before()["conv.weight"], 0.6 * 1 + 0.4 * 2, rtol=1e-6)
    add(buffer, "brain-1", 3.0, began=1, number=2)
    assert buffer.model_of("brain-1", "MRI")[0] == name
    np.testing.assert_allclose(
        buffer.model_of("brain-1", "MRI")[1]()["conv.weight"], 0.6 * 3 + 0.4 * 2, rtol=1e-6
    )
    # The report of brain-1 has no effect on brain-2 before the next version.
    np.testing.assert_allclose(
        buffer.model_of("brain-2", "MRI")[1]()["conv.weight"], 0.6 * 2 + 0.4 * 1, rtol=1e-6
    )


def test_the_first_client_that_reports_goes_on_with_its_own_model():
    buffer = make_buffer(make_state(0.0), "flames", size=2)
    add(buffer, "brain-1", 3.0)
    np.testing.assert_allclose(buffer.model_of("brain-1", "MRI")[1]()["conv.weight"], 3.0)
    np.testing.assert_allclose(buffer.model_of("brain-2", "MRI")[1]()["conv.weight"], 0.0)


def test_in_a_mean_every_client_trains_the_newest_model():
    buffer = make_buffer(make_state(0.0, round_=4))
    add(buffer, "brain-1", 3.0, began=4)
    assert {buffer.model_of(client, "MRI")[0] for client in CLIENTS} == {"version 4 of MRI"}


def test_a_report_that_cannot_be_used_does_not_enter_the_buffer():
    buffer = make_buffer(make_state(), size=1)
    assert "not finite" in add(buffer, "brain-1", float("nan"))
    assert not buffer.is_full


@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality"])
def test_a_report_that_moved_too_far_is_rejected_with_the_buffer(strategy):
    settings = RoundSettings(limit=NormLimit(10.0))
    buffer = make_buffer(make_state(5.0), strategy, size=3, settings=settings)
    add(buffer, "brain-1", 5.1, start=5.0)
    add(buffer, "brain-2", 500.0, start=5.0)
    add(buffer, "brain-1", 5.1, start=5.0, number=2)
    result = buffer.flush({"MRI": 2})
    assert result.accepted == ("brain-1",)
    assert "--max-update-norm" in result.rejected["brain-2"]
    np.testing.assert_allclose(result.state.server["MRI"]["conv.weight"], 5.1, rtol=1e-6)
    assert set(result.state.progress.newest) == ({"brain-1"} if strategy == "flames" else set())


def test_a_stale_flames_report_is_judged_by_the_model_with_which_it_began():
    settings = RoundSettings(limit=NormLimit(10.0))
    buffer = make_buffer(make_state(100.0, round_=9), "flames", settings=settings)
    add(buffer, "brain-1", 100.1, start=100.0, began=9, control=None)
    add(buffer, "brain-2", 1.1, start=1.0, began=0, control=None)
    assert set(buffer.flush({"MRI": 2}).accepted) == set(CLIENTS)
