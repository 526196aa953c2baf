"""The best round of a run: its checkpoint is kept, examined like the last one, and can be evaluated."""

import json

import pytest

from flames_cli.core.federated.best_round import score_rounds
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted
from flames_cli.stages import rounds
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import list_rounds, load_state
from flames_cli.store.evaluations import read_evaluation_file
from tests.support.asserts import assert_same_state
from tests.support.stages import evaluate_run, federate_config

pytestmark = pytest.mark.federated

FAST = {"lr": 0.05}
"""Learning rate with which the first round is the best one, since the images are noise."""


@pytest.fixture(scope="module")
def root(tiny):
    """Return a workspace with the run `four`, whose first round is the best, and `one`, of one round."""
    made = tiny()
    federate(federate_config(made, rounds=4, keep_rounds=1, run="four", **FAST))
    federate(federate_config(made, rounds=1, run="one", **FAST))
    return made


def folder(root, run):
    return root / "runs" / run


def final_of(root, run):
    return json.loads((folder(root, run) / "final-models.json").read_text())


def test_the_best_round_is_stored_as_if_the_run_had_ended_after_it(root):
    checkpoints = folder(root, "four") / "checkpoints"
    assert list_rounds(checkpoints) == [1, 4]
    assert_same_state(load_state(checkpoints, 1), load_state(folder(root, "one") / "checkpoints"))
    assert load_state(checkpoints, 1).statistics.clients
    (earlier,), alone = final_of(root, "four")["earlier"], final_of(root, "one")
    assert earlier == {key: alone[key] for key in ("round", "clients", "missing")}


def test_the_best_round_is_evaluated_on_request_with_results_of_its_own(root):
    best, alone = evaluate_run(root, "four", round="best"), evaluate_run(root, "one")
    assert best.tables == alone.tables
    assert best.folder == root / "evaluations" / "four-best"
    (run,) = read_evaluation_file(best.folder / "evaluation.json").runs
    assert (run.round, run.last_round, run.asked) == (1, 4, "best")
    assert run.why.startswith("the best of 4 rounds by 3 validation patients (mean")
    last = evaluate_run(root, "four")
    assert (last.content.runs[0].round, last.folder) == (4, root / "evaluations" / "four")
    assert "3 validation patients are too few" in last.content.runs[0].why
    assert evaluate_run(root, "four", round=1).folder == root / "evaluations" / "four-round-1"


def test_with_enough_patients_the_best_round_is_the_default(root, monkeypatch):
    monkeypatch.setattr(rounds, "ENOUGH_PATIENTS", 3)
    result = evaluate_run(root, "four")
    (run,) = result.content.runs
    assert (run.round, run.asked) == (1, "best")
    assert result.folder == root / "evaluations" / "four"
    assert evaluate_run(root, "four", round="last").folder == root / "evaluations" / "four-last"


def test_other_rounds_have_statistics_of_their_blend_and_the_result_says_so(tiny):
    root = tiny()
    federate(federate_config(root, rounds=3, keep_rounds=3, **FAST))
    found = {number: evaluate_run(root, round=number).content.runs[0] for number in (1, 2, 3)}
    stale = {number: run.stale_statistics for number, run in found.items()}
    assert stale == {1: False, 2: True, 3: False}


def test_a_continued_run_chooses_as_one_that_was_not_stopped(tiny):
    root = tiny()
    whole = federate(federate_config(root, rounds=3, run="whole", **FAST))
    for number in (1, 2, 3):
        parts = federate(federate_config(root, rounds=number, run="parts", **FAST))
    assert parts.final == whole.final
    assert parts.chosen == whole.chosen
    stored = list_rounds(whole.folder / "checkpoints")
    assert list_rounds(parts.folder / "checkpoints") == stored == [1, 2, 3]
    for number in (1, 3):
        states = (load_state(run.folder / "checkpoints", number) for run in (parts, whole))
        assert_same_state(*states)


def test_a_damaged_best_round_is_set_aside_and_another_one_is_the_best(tiny):
    root = tiny()
    run = federate(federate_config(root, rounds=3, **FAST)).folder
    file = run / "checkpoints" / "round-00001" / "server-MRI.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(FlamesError, match=r"does not repeat a round before the last; copy it back from a"):
        evaluate_run(root, round="best")
    events = []
    again = federate(federate_config(root, rounds=4, **FAST), events.append)
    notes = [one.note for one in events if isinstance(one, Noted)]
    assert [note for note in notes if not note.startswith("few training steps")] == [
        "the checkpoint of round-00001 is damaged (the checksum of server-MRI.safetensors differs) and is "
        "set aside as round-00001.damaged; the best round is chosen among the others"
    ]
    scores = score_rounds(again.records, [again.final])
    best = scores.best([3, 4])
    assert [one["round"] for one in again.final["earlier"]] == ([3] if best == 3 else [])
    assert evaluate_run(root, round="best").content.runs[0].round == best
