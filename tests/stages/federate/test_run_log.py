"""The log of a run: plain lines with times in UTC, on every engine, also of a run that stops."""

import re
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.events import (
    ClientJoined,
    Estimated,
    FinalModelsExamined,
    LineLogged,
    NodeRejected,
    Noted,
    ReportRejected,
    RoundDone,
    StepDone,
    Waiting,
)
from flames_cli.stages.federate import run_log
from flames_cli.stages.federate.run_log import describe, logged
from flames_cli.stages.federate.stage import federate
from flames_cli.store.runs import RunFolder, write_config
from tests.support.stages import federate_config

TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S.*")


def words(run, without=("machine", "options")):
    """Return the lines of the log without their times."""
    lines = run.log.read_text(encoding="utf-8").splitlines()
    assert all(TIMED.fullmatch(line) for line in lines)
    texts = [line.partition(" ")[2] for line in lines]
    return [text for text in texts if text.partition(":")[0] not in without]


@pytest.mark.federated
def test_the_log_has_the_clients_each_round_and_the_end(tiny):
    root = tiny()
    run = RunFolder(federate(federate_config(root, rounds=1)).folder)
    found = words(run, without=())
    assert [text.partition(":")[0] for text in found] == [
        "start",
        "machine",
        "options",
        *["joined"] * 3,
        "note",
        "round 1",
        "final models of round 1",
        "end",
    ]
    assert found[0] == "start: round 1 of 1"
    assert "python=" in found[1]
    assert "strategy=flames model=unet rounds=1" in found[2]
    assert "joined: busi (US, breast, 7 training images)" in found
    assert "3 of 3 reports accepted" in found[-3]
    assert found[-1].startswith("end: finished after round 1; flames evaluate takes round 1: the last round")
    token = run.config.read_text().partition('token = "')[2][:16]
    assert token not in run.log.read_text()


@pytest.mark.federated
def test_a_run_that_continues_appends_to_its_log(tiny):
    root = tiny()
    run = RunFolder(federate(federate_config(root, rounds=1)).folder)
    before = run.log.read_text()
    federate(federate_config(root, rounds=1))
    assert run.log.read_text() == before, "nothing was done"
    events = []
    federate(federate_config(root, rounds=2), events.append)
    assert run.log.read_text().startswith(before)
    new = run.log.read_text().removeprefix(before)
    assert "start: continues after round 1 of 2" in new
    assert [event.line for event in events if isinstance(event, LineLogged)] == new.splitlines()


@pytest.fixture
def run(tmp_path):
    found = RunFolder(tmp_path / "runs" / "mine")
    found.path.mkdir(parents=True)
    facts = {"token": "0123456789abcdef", "flames": "9.9", "machines": [{"cpu": "x"}], "size": 32}
    write_config(found.config, {"federate": {}, "run": facts})
    return found


@contextmanager
def logging(run, events=None, **options):
    config = federate_config(run.path.parents[1], **options)
    with logged(run, config, events.append if events is not None else lambda event: None) as listen:
        yield listen


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            FlamesError("round 3 got no good report (a: late)"),
            ["error: round 3 got no good report (a: late)", "end: stopped by this error"],
        ),
        (KeyboardInterrupt(), ["end: interrupted; the same command continues the run"]),
        (
            ZeroDivisionError("x\ny"),
            ["error: internal error (ZeroDivisionError: x y)", "end: stopped by this error"],
        ),
    ],
    ids=["error", "Ctrl-C", "bug"],
)
def test_the_log_says_how_a_run_ended(run, error, lines):
    with pytest.raises(type(error)), logging(run):
        raise error
    assert words(run)[1:] == lines


def test_notes_from_before_and_times_are_in_the_log(run, tmp_path):
    clock = lambda: datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)  # noqa: E731
    with logged(run, federate_config(tmp_path), lambda event: None, 4, ["the checkpoint is damaged"], clock):
        pass
    text = run.log.read_text()
    assert "2026-05-04T03:02:01Z start: continues after round 4 of 2\n" in text
    assert "2026-05-04T03:02:01Z note: the checkpoint is damaged\n" in text


RECORD = {
    "round": 3,
    "seconds": 4.25,
    "clients": [
        {"client": "a", "modality": "MRI", "n_examples": 1, "train_loss": 0.5, "n_val": 1.0}
        | {"received_val_dice": 0.25, "trained_val_dice": 0.5},
        {"client": "b", "modality": "MRI", "n_examples": 3, "train_loss": 0.25, "n_val": 3.0}
        | {"received_val_dice": 0.5, "trained_val_dice": 0.75},
        {"client": "c", "modality": "US", "rejection_reason": "late"},
    ],
    "accepted": ["a", "b"],
    "rejected": {"c": "late"},
    "unchanged_groups": ["US"],
    "bytes_down": 2**20,
    "bytes_up": 2**19,
}


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (ClientJoined("a", "MRI", "brain", 5), ["joined: a (MRI, brain, 5 training images)"]),
        (NodeRejected("node 7", "other size"), ["cannot join: node 7: other size"]),
        (Waiting(0, "1 of 2 clients", 30.0), ["waiting: up to 30 s before round 1: 1 of 2 clients"]),
        (ReportRejected("c", 3, "late"), ["rejected: round 3, c: late"]),
        (
            RoundDone(RECORD),
            [
                "round 3: 4.2 s, training loss 0.3125, validation Dice 0.4375 as received, 0.6875 after "
                "local training, 2 of 3 reports accepted, unchanged models: US, 1.00 MiB sent, 0.50 MiB "
                "received"
            ],
        ),
        (
            FinalModelsExamined(
                {
                    "round": 3,
                    "clients": [{"client": "a", "n_val": 2.0, "val_dice": 0.5}],
                    "missing": {"c": "late"},
                    "earlier": [{"round": 2, "clients": [{"client": "a", "n_val": 2.0, "val_dice": 0.75}]}],
                }
            ),
            [
                "final models of round 3: validation Dice 0.5000",
                "final models of round 2: validation Dice 0.7500",
                "no report on the final models: c: late",
            ],
        ),
        (Noted("few steps"), ["note: few steps"]),
        (StepDone("a", 1, 1, 2), []),
        (Estimated(3.0), []),
    ],
)
def test_an_event_is_a_line_or_nothing(event, lines):
    assert describe(event, private=False) == lines


def test_the_log_of_a_private_run_has_means_over_clients_and_no_numbers_of_images():
    assert describe(ClientJoined("a", "MRI", "brain", 5), private=True) == ["joined: a (MRI, brain)"]
    reason = "it reports 6 examples, it joined with 5"
    rejected = describe(ReportRejected("c", 3, reason), private=True)
    assert rejected == ["rejected: round 3, c: rounds.jsonl has the reason"]
    final = {"round": 3, "clients": [], "missing": {"c": reason}}
    assert "final-models.json has the reason" in describe(FinalModelsExamined(final), private=True)[-1]
    (line,) = describe(RoundDone({**RECORD, "epsilon": 4.5, "delta": 1e-5}), private=True)
    assert "training loss 0.3750, validation Dice 0.3750 as received, 0.6250 after" in line
    assert "reports" not in line
    assert line.endswith("epsilon 4.5 (delta 1e-05)")


def test_a_reason_from_another_machine_is_one_printable_line(run):
    with logging(run) as listen:
        listen(ReportRejected("c\x1b[31m", 3, "late\nend: finished"))
        listen(ReportRejected("c", 3, "x" * 10_000))
    rejected = [text for text in words(run) if text.startswith("rejected")]
    assert rejected[0] == "rejected: round 3, c?[31m: late end: finished"
    assert len(rejected[1]) == run_log.LONGEST


def test_a_log_that_is_too_large_is_renamed(run, monkeypatch):
    monkeypatch.setattr(run_log, "LARGEST", 300)
    with logging(run) as listen:
        for number in range(20):
            listen(Noted(f"note {number:03d}"))
    assert run.log.stat().st_size < 500
    assert run.earlier_log.stat().st_size < 500
    both = run.earlier_log.read_text() + run.log.read_text()
    assert re.findall(r"note (\d+)", both)[-8:] == [f"{number:03d}" for number in range(12, 20)]


def test_a_log_that_cannot_be_written_is_noted_once_and_ends_nothing(run):
    run.log.mkdir()
    events = []
    with logging(run, events) as listen:
        listen(Noted("a"))
        listen(Noted("b"))
    notes = [event.note for event in events if isinstance(event, Noted)]
    assert len(notes) == 3
    assert notes[0].startswith("log.txt of the run is not written any more: ")
