"""Runs of a server in words: Flower's list, joined with the folders of the runs."""

import json
from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.submitted_runs import FILE, SubmittedRun, note_submitted, read_submitted
from flames_cli.flower.control_api import RunRecord
from flames_cli.stages.deploy.run_status import describe_runs
from flames_cli.store.clients import JoinedClient, KeptModel, write_clients
from flames_cli.store.files.locks import locked, rounds_of
from flames_cli.store.runs import read_config, write_config
from tests.support.runs import write_run

TOKEN = "00112233445566ff"
DONE = RunRecord(7, "finished:completed", "", "2026-01-04T00:00:00", "2026-01-04T01:00:00")


@pytest.fixture
def make(tmp_path):
    """make(rounds=2, asked=2, …): a run's folder with two clients, of which one was in the last round."""

    def write(rounds=2, asked=2, token=TOKEN, kept=("a", "b"), name="trial", **options):
        run = write_run(tmp_path / "there", name, rounds, asked=asked, seconds=7.0, **options)
        tables = read_config(run.config)
        tables["run"]["token"] = token
        write_config(run.config, {key: tables[key] for key in ("federate", "run")})
        if rounds:
            lines = run.rounds.read_text(encoding="utf-8").splitlines()
            added = [json.dumps({**json.loads(line), "accepted": ["a"]}) + "\n" for line in lines]
            run.rounds.write_text("".join(added), encoding="utf-8")
        model = KeptModel(rounds, "0" * 64)
        write_clients(
            run.joined_clients,
            [
                JoinedClient(one, "MRI", "brain", 64, kept=model if one in kept else None)
                for one in ("a", "b")
            ],
        )
        return run

    return write


def status_of(run, *records, token=TOKEN):
    known = {record.run_id: SubmittedRun(run.path, token) for record in records}
    (found,) = describe_runs(records, known)
    return found


def test_a_finished_run_is_described_by_its_folder(make):
    found = status_of(make(dice=[0.3, 0.5]), DONE)
    assert (found.name, found.strategy, found.round, found.rounds, found.state) == (
        "trial",
        "flames",
        2,
        2,
        "finished",
    )
    assert (found.clients_in, found.clients_out, found.without_model) == (("a",), ("b",), ())
    assert (found.dice, found.dice_round, found.seconds_a_round) == (0.5, 2, 7.0)
    assert found.last_round
    assert found.run_ids == (7,)


def test_a_node_that_could_not_join_is_named_with_the_reason_until_it_joins(make):
    run = make()
    lines = ["start: round 1 of 2", "cannot join: client old: gone", "start: continues after round 1 of 2"]
    lines += ["joined: a (MRI, brain, 9 training images)"]
    lines += [f"cannot join: client {name}: it has 0.2.0: run pip" for name in ("b", "c")]
    lines += ["joined: c (US, breast, 9 training images)"]
    run.log.write_text("".join(f"2026-01-04T00:00:00Z {line}\n" for line in lines))
    assert status_of(run, DONE).rejected == {"client b": "it has 0.2.0: run pip"}
    run.log.unlink()
    assert status_of(run, DONE).rejected == {}


def test_a_client_without_its_model_is_named_at_the_end_only(make):
    assert status_of(make(kept=("a",)), DONE).without_model == ("b",)
    running = replace(DONE, status="running", finished_at=None)
    assert status_of(make(rounds=1, kept=(), name="other"), running).without_model == ()


@pytest.mark.parametrize(
    ("flower", "rounds", "state"),
    [
        ("running", 1, "waiting for round 2"),
        ("pending", 0, "waiting for round 1"),
        ("finished:stopped", 1, "stopped after round 1; run the same `flames federate` again to continue"),
        ("finished:failed", 1, "ended by an error after round 1; run the same `flames federate` again"),
        ("finished:failed", 0, "ended by an error before its first round ended; run the same"),
    ],
)
def test_the_state_of_a_run_is_told_in_words(flower, rounds, state, make):
    found = status_of(make(rounds=rounds), replace(DONE, status=flower))
    assert found.state.startswith(state)


def test_a_run_whose_process_works_is_running_in_its_next_round(make):
    run = make(rounds=1)
    with locked(rounds_of(run.path)):
        assert status_of(run, replace(DONE, status="running")).state == "running: round 2"
    done = make(rounds=2, name="done")
    with locked(rounds_of(done.path)):
        assert (
            status_of(done, replace(DONE, status="running")).state == "running: models after the last round"
        )


def test_a_run_that_was_submitted_again_is_listed_once(make):
    run, lost = make(), replace(DONE, run_id=3, status="finished:failed")
    found = status_of(run, DONE, lost)
    assert (found.state, found.run_ids) == ("finished", (7, 3))


def test_a_run_that_was_renamed_is_found_by_its_token(make):
    run = make()
    moved = run.path.rename(run.path.with_name("trial-old-1"))
    make(token="ff" * 8)  # the run that took its name
    found = status_of(run, DONE)
    assert (found.name, found.folder) == ("trial-old-1", str(moved))


def test_what_is_not_known_is_said(make, tmp_path):
    (unknown,) = describe_runs([DONE], {})
    assert (unknown.name, unknown.rounds, unknown.dice) == ("", 0, None)
    assert unknown.state == "finished; its name and folder are not known on this machine"
    gone = status_of(type(make())(tmp_path / "elsewhere" / "runs" / "x"), DONE)
    assert gone.name == "x"
    assert gone.state.startswith("finished; its folder ")


@pytest.mark.parametrize("damage", ["config", "clients", "rounds"])
def test_a_damaged_folder_is_said_and_ends_nothing(damage, make):
    run = make()
    if damage == "config":
        run.config.write_text(run.config.read_text(encoding="utf-8") + "\n[[[", encoding="utf-8")
    elif damage == "clients":
        run.joined_clients.write_text("{", encoding="utf-8")
    else:
        run.rounds.write_text('{"round": 2, "accepted": 7}\n', encoding="utf-8")
    found = status_of(run, DONE)
    assert found.state.startswith("finished; its folder ")
    assert "\n" not in found.state


def test_a_submitted_run_is_noted_and_read(make, tmp_path):
    run = make()
    assert read_submitted(tmp_path) == {}
    note_submitted(tmp_path, 7, run.path)
    note_submitted(tmp_path, 9, run.path)
    known = SubmittedRun(run.path, TOKEN)
    assert read_submitted(tmp_path) == {7: known, 9: known}
    assert known.find_folder().path == run.path
    (tmp_path / FILE).write_text('{"run_id": "x"}\n', encoding="utf-8")
    with pytest.raises(FlamesError, match="cannot be read"):
        read_submitted(tmp_path)
