"""flames-adaptive in federations of stub clients: offers, choices, and reports that are not possible."""

from dataclasses import replace

import numpy as np
import pytest

from flames_cli.core.federated.choice import CANDIDATES, FLAMES, OWN, Choice
from tests.support.asserts import assert_same, assert_same_state
from tests.support.federation import drift, make_profile, run_federation

CLIENTS = [make_profile("m1", n_train=30), make_profile("m2"), make_profile("m3"), make_profile("u1", "US")]
LEVEL = dict.fromkeys(CANDIDATES, 0.5)


def run(algorithm="flames-adaptive", **options):
    return run_federation(CLIENTS, algorithm, **{"rounds": 3, **options})


def test_clients_that_choose_the_blend_of_flames_receive_it_bit_for_bit():
    ours, theirs = run(), run("flames")
    for round_ in (1, 2, 3):
        received, expected = ours.received(round_), theirs.received(round_)
        for client in ("m1", "m2", "m3", "u1"):
            assert_same(received[client], expected[client])
    for group in ("MRI", "US"):
        assert_same(ours.state.server[group], theirs.state.server[group])
    assert_same(ours.state.final_model_for("m2", "MRI"), theirs.state.final_model_for("m2", "MRI"))


def test_a_client_is_offered_its_own_last_weights_and_a_blend():
    seen = run(rounds=2)
    tasks = {task.request.client: task for task in seen.tasks if task.request.round == 2}
    for client, report in seen.reported(1).items():
        assert_same(tasks[client].weights, report.weights)
    assert [tasks[client].prior is None for client in ("m1", "m2", "m3", "u1")] == [False] * 3 + [True]
    assert all(task.prior is None and task.blend is None for task in seen.tasks if task.request.round == 1)
    assert tasks["m1"].prior.n_clients == 3


def choosing(choice, who="m1", round_=2):
    """Return training in which a client reports `choice` in one round."""

    def train(request, weights, profile):
        report = drift(request, weights, profile)
        if (profile.client, request.round) == (who, round_):
            return replace(report, choice=choice)
        return report

    return train


def test_a_record_contains_the_choice_and_its_reasons():
    profiles = [replace(profile, n_val=2) for profile in CLIENTS]
    seen = run_federation(profiles, "flames-adaptive", train=choosing(Choice(OWN, 2, LEVEL)))
    clients = {client["client"]: client for client in seen.records[1]["clients"]}
    assert (clients["m1"]["pick"], clients["m1"]["candidates"]) == (OWN, LEVEL)
    assert clients["m2"]["pick"] == FLAMES
    assert "pick" not in clients["u1"]
    assert seen.state.preferences["m1"].patients == 2


@pytest.mark.parametrize(
    ("choice", "who", "reason"),
    [
        (
            Choice(OWN, 3, LEVEL),
            "m1",
            "it chose by 3 validation patients, it joined with 2 validation images",
        ),
        (Choice(OWN), "u1", "it reports a choice of its model, expected none"),
    ],
)
def test_a_choice_that_is_not_possible_is_rejected_and_changes_nothing(choice, who, reason):
    profiles = [replace(profile, n_val=2) for profile in CLIENTS]
    seen = run_federation(profiles, "flames-adaptive", rounds=2, train=choosing(choice, who))
    ((client, found),) = seen.records[1]["rejected"].items()
    assert (client, found.startswith(reason)) == (who, True)
    assert seen.saved[0][0].preferences[who] == seen.state.preferences[who]


def test_a_choice_in_a_strategy_without_one_is_rejected_and_not_stored():
    seen = run("fedavg", rounds=2, train=choosing(Choice(OWN)))
    assert seen.records[1]["rejected"]["m1"].startswith("it reports a choice of its model, expected none")
    assert all("pick" not in client for client in seen.records[1]["clients"])


def test_a_resumed_federation_makes_the_same_offers():
    whole, first = run(), run(rounds=1)
    assert_same_state(run(resumed=first.state).state, whole.state)


def test_a_client_of_a_fraction_is_offered_the_newest_blend_of_the_others():
    seen = run(rounds=6, fraction=0.4)
    offered = [task for task in seen.tasks if task.prior]
    assert offered
    assert all(task.prior.n_clients in (2, 3) for task in offered)
    assert all(np.isfinite(task.blend["conv.weight"]).all() for task in offered)
