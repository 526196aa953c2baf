import json

import pytest

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.event_log import EventLog, EventReader, Lost
from flames_cli.fed.events import (
    ClientAsked,
    ClientJoined,
    Estimated,
    FederationStarted,
    NodeRejected,
    Noted,
    ReportReceived,
    ReportRejected,
    RoundDone,
    Waiting,
)

EVENTS = [
    Waiting(1, "1 of 2 expected clients can be asked", 12.5),
    ClientJoined("ä", "MRI", "brain", 10),
    NodeRejected("node 7", "its shard is gone"),
    FederationStarted((("ä", "MRI", 10), ("b", "US", 3)), 1, 4),
    ClientAsked("b", 1),
    ReportReceived("b", 1, {"train_loss": 0.5}),
    ReportRejected("ä", 1, "late"),
    Noted("a checkpoint is damaged"),
    RoundDone({"round": 1, "clients": [{"client": "b"}]}),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_written_events_are_read_once_and_in_order(path):
    log, reader = EventLog(path), EventReader(path)
    assert reader.read() == []
    for event in EVENTS[:3]:
        log(event)
    assert reader.read() == EVENTS[:3]
    for event in EVENTS[3:]:
        log(event)
    assert reader.read() == EVENTS[3:]
    assert reader.read() == []
    assert not reader.ended


def test_half_a_line_waits_for_its_other_half(path):
    EventLog(path)(EVENTS[0])
    line = path.read_bytes()
    path.write_bytes(line[:10])
    reader = EventReader(path)
    assert reader.read() == []
    path.write_bytes(line)
    assert reader.read() == EVENTS[:1]


def test_events_of_the_showing_process_are_not_written(path):
    EventLog(path)(Estimated(3.0))
    assert not path.exists()


def test_a_run_that_ends_well_says_so(path):
    reader = EventReader(path)
    EventLog(path).end()
    assert reader.read() == []
    assert reader.ended
    reader.raise_problem()


def test_a_run_that_is_lost_by_something_that_passes_says_so(path):
    reader = EventReader(path)
    EventLog(path).begin()
    assert (reader.read(), reader.begun, reader.ended) == ([], True, False)
    EventLog(path).end("the SuperLink was lost", 1, lost=True)
    assert reader.read() == []
    with pytest.raises(Lost, match="the SuperLink was lost"):
        reader.raise_problem()


@pytest.mark.parametrize(("kind", "code"), [(FlamesError, 2), (MissingArtifact, 3)])
def test_a_run_that_fails_fails_with_the_same_words_and_exit_code(path, kind, code):
    EventLog(path)(EVENTS[0])
    EventLog(path).end("round 3 got no good report", code)
    reader = EventReader(path)
    assert reader.read() == EVENTS[:1], "what was told before the end is not lost"
    with pytest.raises(kind, match="round 3 got no good report") as caught:
        reader.raise_problem()
    assert caught.value.exit_code == code


def test_every_line_is_json(path):
    for event in EVENTS:
        EventLog(path)(event)
    assert [json.loads(line)["event"] for line in path.read_text(encoding="utf-8").splitlines()] == [
        type(event).__name__ for event in EVENTS
    ]
