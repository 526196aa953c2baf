from dataclasses import replace

import numpy as np
import pytest

from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.events import FederationStarted, Noted, StepDone
from flames_cli.fed.plan import Plan
from flames_cli.learn.train_options import TrainOptions
from flames_cli.stages.federate.start_warnings import FEW_STEPS, few_steps, unknown_names, warn_at_start

CLIENTS = (("m1", "MRI", 30), ("m2", "MRI", 18), ("u1", "US", 10))


def plan(strategy, rounds, **options):
    training = TrainOptions(batch_size=10, **options)
    return Plan(
        get_algorithm(strategy), rounds, 0, "unet", {}, {"w": np.ones(1, np.float32)}, 8, training=training
    )


@pytest.mark.parametrize(
    ("strategy", "rounds", "named"),
    [
        ("flames", 30, "model MRI: 150, model US: 30"),
        ("flames", 40, "model US: 40"),
        ("flames", FEW_STEPS, ""),
        ("fedavg", 30, "model all: 180"),
        ("fedavg", 34, ""),
        ("local", 40, "model m1: 120, model m2: 80, model u1: 40"),
    ],
)
def test_the_steps_of_all_clients_of_a_model_count(strategy, rounds, named):
    note = few_steps(plan(strategy, rounds), CLIENTS)
    assert (f"({named})" in note) if named else not note


def test_epochs_count_and_the_note_has_the_users_numbers():
    assert not few_steps(plan("fedavg", 17, local_epochs=2), CLIENTS)
    note = few_steps(plan("fedavg", 12, local_epochs=2), CLIENTS)
    assert "(model all: 144), expected at least 200" in note
    assert "--rounds (now 12)" in note
    assert "--local-epochs (now 2)" in note
    assert "--batch-size (now 10)" in note


def test_half_of_the_clients_make_half_of_the_steps():
    assert "(model all: 180)" in few_steps(replace(plan("fedavg", 60), fraction=0.5), CLIENTS)


def test_warnings_that_are_known_before_the_start_come_first():
    events = []
    listen = warn_at_start(plan("fedavg", 1), events.append, ["site healthy of h is no client"])
    listen(FederationStarted(CLIENTS, 1, 1))
    notes = [event.note for event in events if isinstance(event, Noted)]
    assert notes[0] == "site healthy of h is no client"
    assert "few training steps" in notes[1]


def test_an_option_for_a_name_that_has_not_joined_is_noted():
    named = replace(
        plan("flames", 1), own_training={"lr": {"US": 1e-3, "m3": 0.01}, "local_epochs": {"u1": 2}}
    )
    assert unknown_names(named, CLIENTS) == (
        "--lr m3=0.01 has no effect so far: no client or modality of that name has joined, only MRI, m1, m2, "
        "US, u1; correct the name, unless such a client joins later"
    )
    assert not unknown_names(plan("flames", 1), CLIENTS)


def test_the_note_follows_the_start_and_nothing_else():
    seen = []
    listen = warn_at_start(plan("fedavg", 1), seen.append)
    events = [FederationStarted(CLIENTS, 1, 1), StepDone("m1", 1, 1, 3)]
    for event in events:
        listen(event)
    assert seen[0::2] == events
    assert isinstance(seen[1], Noted)
