from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.lr_schedule import LrSchedule
from flames_cli.core.federated.reports import Entries, State
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.plan import Plan, with_model_groups
from flames_cli.learn.train_options import TrainOptions
from tests.support.federation import make_profile

WEIGHTS = {
    "content.w": np.ones((2, 2), np.float32),
    "content.count": np.array(3),
    "renderer.w": np.zeros(3, np.float32),
}
ENTRIES = Entries(
    trainable=frozenset({"content.w", "renderer.w"}),
    norm=frozenset(),
    shared=frozenset({"content.w", "content.count"}),
    style=frozenset({"renderer.w"}),
)


@pytest.fixture
def clients():
    return [make_profile("m1"), make_profile("m2"), make_profile("m3"), make_profile("u1", "US")]


def plan(strategy="flames", **changes):
    made = Plan(get_algorithm(strategy), 5, 0, "sdnet", {}, WEIGHTS, 8)
    return replace(made, **changes)


def styles(*names):
    return {name: {"renderer.w": np.full(3, index, np.float32)} for index, name in enumerate(names)}


def test_a_task_contains_only_the_shared_entries(clients):
    made = plan(entries=ENTRIES, share="content")
    task = made.task(with_model_groups(None, made, clients), 1, clients[0], clients)
    assert set(task.weights) == {"content.w", "content.count"}
    assert (task.control, task.style, task.request.share) == (None, None, "content")


def test_a_task_holds_every_entry_where_all_is_shared(clients):
    made = plan()
    task = made.task(with_model_groups(None, made, clients), 1, clients[0], clients)
    assert set(task.weights) == set(WEIGHTS)


def test_scaffold_starts_from_control_variates_of_zero(clients):
    made = plan("scaffold", entries=replace(ENTRIES, shared=None))
    task = made.task(with_model_groups(None, made, clients), 1, clients[0], clients)
    assert set(task.control) == {"content.w", "renderer.w"}
    assert not any(array.any() for array in task.control.values())


def test_scaffold_sends_the_servers_control_variate(clients):
    made = plan("scaffold")
    control = {"content.w": np.full((2, 2), 2, np.float32)}
    state = State(1, {"all": WEIGHTS}, optimiser_state={"all": {"control": control}})
    assert made.task(state, 2, clients[0], clients).control is control


@pytest.mark.parametrize(
    ("round_", "reports", "redraws"), [(1, False, False), (2, True, False), (3, True, True)]
)
def test_renderers_are_reported_from_the_round_before_they_are_lent(round_, reports, redraws, clients):
    made = plan(entries=ENTRIES, style_from=3)
    state = replace(with_model_groups(None, made, clients), styles=styles("m1", "m2", "m3"))
    task = made.task(state, round_, clients[0], clients)
    assert task.request.report_style == reports
    assert (task.style is not None) == redraws


def test_the_only_client_of_a_group_lends_no_renderer(clients):
    made = plan(entries=ENTRIES, style_from=2)
    state = with_model_groups(None, made, clients)
    asked = [made.task(state, 1, client, clients).request.report_style for client in clients]
    assert asked == [True, True, True, False]


def test_a_client_is_lent_renderers_of_its_group_but_never_its_own(clients):
    made = plan(entries=ENTRIES, style_from=1)
    lent = styles("m1", "m2", "u1")
    state = replace(with_model_groups(None, made, clients), styles=lent)
    drawn = [made.task(state, round_, clients[0], clients).style for round_ in range(1, 20)]
    assert all(one is lent["m2"] for one in drawn)
    assert made.task(state, 1, clients[3], clients).style is None


def test_which_renderer_is_lent_follows_from_the_seed(clients):
    made = plan(entries=ENTRIES, style_from=1)
    lent = styles("m1", "m2", "m3")
    state = replace(with_model_groups(None, made, clients), styles=lent)

    def draws(seed):
        one = replace(made, seed=seed)
        return [id(one.task(state, round_, clients[0], clients).style) for round_ in range(1, 20)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert set(draws(1)) == {id(lent["m2"]), id(lent["m3"])}


def test_groups_start_with_equal_values_and_share_no_memory(clients):
    initial = {"conv.weight": np.ones((2, 3), np.float32)}
    made = Plan(get_algorithm("flames"), 1, 0, "stub", {}, initial, 8)
    started = with_model_groups(None, made, clients)
    assert started.round == 0
    for model in started.server.values():
        np.testing.assert_array_equal(model["conv.weight"], initial["conv.weight"])
    started.server["MRI"]["conv.weight"][:] = 7
    assert started.server["US"]["conv.weight"].max() == initial["conv.weight"].max() == 1


def test_a_clients_own_option_takes_precedence_over_its_modalitys(clients):
    own = {"lr": {"US": 0.2, "m2": 0.3}, "local_epochs": {"MRI": 2, "m2": 4}}
    made = plan(own_training=own, training=TrainOptions(lr=0.1, batch_size=4))
    state = with_model_groups(None, made, clients)
    asked = [made.task(state, 1, client, clients).request.training for client in clients]
    assert [(one.lr, one.local_epochs) for one in asked] == [(0.1, 2), (0.3, 4), (0.1, 2), (0.2, 1)]
    assert made.steps_a_round("m2", "MRI", 10) == 4 * 3


def test_the_rate_of_a_round_follows_the_schedule(clients):
    made = plan(training=TrainOptions(lr=0.4), lr_schedule=LrSchedule("cosine", 1))
    state = with_model_groups(None, made, clients)
    rates = [made.task(state, round_, clients[0], clients).request.training.lr for round_ in range(1, 6)]
    assert rates == pytest.approx([0.2, 0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2, 0.4 * (1 - 0.5**0.5) / 2])
    assert rates == [made.lr_of(clients[0], round_) for round_ in range(1, 6)]
