import pytest
from flwr.app import Context, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.attendance import Attendance
from flames_cli.fed.event_log import EventReader
from flames_cli.fed.jobs import JOB, Job, drop_job, events_path, make_job_server_app, read_job, write_job
from flames_cli.store.locks import locked

ATTENDANCE = Attendance(2, {"US": 1}, 3, 60.0, False, 600.0, 4)


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "runs" / "ä b", ATTENDANCE)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_job_comes_back_as_it_was_written(home, job):
    write_job(home, "0a1b", job)
    assert read_job({JOB: "0a1b"})[0] == job


@pytest.mark.parametrize("name", ["", "gone", "../0a1b", "/etc/passwd", "a/b"])
def test_a_job_that_is_not_here_is_refused(home, job, name):
    write_job(home, "0a1b", job)
    with pytest.raises(FlamesError, match="there is no job"):
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

    write_job(home, "0a1b", job)
    with pytest.raises(FlamesError):
        start(make_job_server_app(refuse), "0a1b")
    with pytest.raises(FlamesError, match="the checkpoint is damaged"):
        ended(home).raise_problem()


def test_a_fault_in_the_server_is_told_too(home, job):
    def break_down(job):
        raise ZeroDivisionError("by nothing")

    write_job(home, "0a1b", job)
    with pytest.raises(ZeroDivisionError):
        start(make_job_server_app(break_down), "0a1b")
    with pytest.raises(RuntimeError, match=r"the server failed \(ZeroDivisionError: by nothing\)"):
        ended(home).raise_problem()


def test_a_job_that_was_taken_back_never_begins(home, job):
    write_job(home, "0a1b", job)
    drop_job(home, "0a1b")
    with pytest.raises(FlamesError, match="there is no job"):
        start(make_job_server_app(lambda job: None), "0a1b")
    assert list((home / "jobs").iterdir()) == []


def test_a_run_that_another_process_runs_is_left_alone(home, job):
    write_job(home, "0a1b", job)
    with locked(job.run), pytest.raises(FlamesError, match="another process runs 'ä b'"):
        start(make_job_server_app(lambda job: None), "0a1b")
