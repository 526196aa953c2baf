import signal
import threading
import time
from dataclasses import replace

import httpx
import pytest
from flwr.app import Context, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.event_log import EventReader, Lost
from flames_cli.fed.jobs import (
    JOB,
    Job,
    Waits,
    events_path,
    handed_over,
    is_at_work,
    make_job_server_app,
    read_job,
)
from flames_cli.fed.participation import Participation
from flames_cli.store.files.locks import locked, rounds_of

PARTICIPATION = Participation(
    min_clients=2,
    min_clients_by_modality={"US": 1},
    expected_nodes=3,
    join_timeout_s=60.0,
    all_must_join=False,
    round_timeout_s=600.0,
    in_flight=4,
)


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "runs" / "ä b", PARTICIPATION)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


QUICK = Waits(watch_s=0.01, orphan_s=0.01)


def test_a_job_comes_back_as_it_was_handed_over(home, job):
    with handed_over(home, "0a1b", job):
        assert read_job({JOB: "0a1b"}) == (home, "0a1b", job)


@pytest.mark.parametrize("name", ["", "gone", "../0a1b", "/etc/passwd", "a/b"])
def test_an_unknown_job_is_rejected(home, job, name):
    with handed_over(home, "0a1b", job), pytest.raises(FlamesError, match="there is no job"):
        read_job({JOB: name})


def ended(home):
    reader = EventReader(events_path(home, "0a1b"))
    reader.read()
    assert reader.ended
    return reader


def start(app, name):
    app(None, Context(1, 1, {}, RecordDict(), {JOB: name}))


def test_a_jobs_server_says_why_it_could_not_begin(home, job):
    def refuse(job):
        raise FlamesError("the checkpoint is damaged")

    with handed_over(home, "0a1b", job):
        with pytest.raises(FlamesError):
            start(make_job_server_app(refuse, QUICK), "0a1b")
        with pytest.raises(FlamesError, match="the checkpoint is damaged"):
            ended(home).raise_problem()


def test_a_bug_in_the_server_is_logged(home, job):
    def break_down(job):
        raise ZeroDivisionError("by nothing")

    with handed_over(home, "0a1b", job):
        with pytest.raises(ZeroDivisionError):
            start(make_job_server_app(break_down, QUICK), "0a1b")
        with pytest.raises(RuntimeError, match=r"the server failed \(ZeroDivisionError: by nothing\)"):
            ended(home).raise_problem()


def test_a_superlink_that_is_lost_is_no_fault(home, job):
    def lose(job):
        raise httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING]")

    with handed_over(home, "0a1b", job):
        with pytest.raises(httpx.ConnectError):
            start(make_job_server_app(lose, QUICK), "0a1b")
        with pytest.raises(Lost, match=r"the SuperLink was lost \(ConnectError: \[SSL"):
            ended(home).raise_problem()


def test_a_server_that_is_interrupted_logs_no_end(home, job):
    def leave(job):
        assert is_at_work(home, "0a1b")
        raise SystemExit(0)

    with handed_over(home, "0a1b", job):
        with pytest.raises(SystemExit):
            start(make_job_server_app(leave, QUICK), "0a1b")
        reader = EventReader(events_path(home, "0a1b"))
        reader.read()
        assert (reader.begun, reader.ended) == (True, False)
        assert not is_at_work(home, "0a1b")


@pytest.fixture
def interruptible():
    """The default answer to SIGINT, which a shell switches off for what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_server_ends_when_the_submitting_process_has_ended(home, job):
    def wait_for_the_end(job):
        caller.__exit__(None, None, None)
        time.sleep(30)
        raise AssertionError("nobody has ended it")

    caller = handed_over(home, "0a1b", job)
    caller.__enter__()
    with pytest.raises(KeyboardInterrupt):
        start(make_job_server_app(wait_for_the_end, QUICK), "0a1b")


def test_a_job_that_was_taken_back_never_begins(home, job):
    with handed_over(home, "0a1b", job):
        pass
    with pytest.raises(FlamesError, match="there is no job"):
        start(make_job_server_app(lambda job: None, QUICK), "0a1b")
    assert list((home / "jobs").iterdir()) == []


def kill_caller(home, job):
    """Files of job 0a1b, whose submitting process was killed."""
    with handed_over(home, "0a1b", job):
        kept = (home / "jobs" / "0a1b.json").read_bytes()
    (home / "jobs" / "0a1b.json").write_bytes(kept)
    (home / "jobs" / ".0a1b.caller.lock").touch()


def test_a_job_whose_caller_was_killed_never_starts(home, job):
    kill_caller(home, job)
    with pytest.raises(FlamesError, match="the `flames federate` that started job '0a1b' has ended"):
        start(make_job_server_app(lambda job: None, QUICK), "0a1b")
    assert list((home / "jobs").iterdir()) == []


def test_the_next_job_removes_the_files_of_killed_callers(home, job):
    kill_caller(home, job)
    with handed_over(home, "beef", job), handed_over(home, "cafe", job):
        assert {path.name for path in (home / "jobs").glob("[!.]*")} == {"beef.json", "cafe.json"}


def test_a_run_that_another_process_runs_is_left_alone(home, job):
    with (
        handed_over(home, "0a1b", job),
        locked(rounds_of(job.run)),
        pytest.raises(FlamesError, match="another process runs 'ä b'"),
    ):
        start(make_job_server_app(lambda job: None, QUICK), "0a1b")


def test_a_server_waits_for_an_earlier_process_of_its_run(home, job):
    def refuse(job):
        raise FlamesError("it was its turn")

    held = locked(rounds_of(job.run))
    held.__enter__()
    threading.Timer(0.1, lambda: held.__exit__(None, None, None)).start()
    with handed_over(home, "0a1b", job), pytest.raises(FlamesError, match="it was its turn"):
        start(make_job_server_app(refuse, replace(QUICK, orphan_s=30.0)), "0a1b")
