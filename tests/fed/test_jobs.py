import pytest
from flwr.app import Context, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.attendance import Attendance
from flames_cli.fed.event_log import EventReader
from flames_cli.fed.jobs import JOB, Job, make_job_server_app, read_job, write_job

ATTENDANCE = Attendance(2, {"US": 1}, 3, 60.0, False, 600.0, 4)


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "runs" / "ä b", tmp_path / "events.jsonl", ATTENDANCE)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_job_comes_back_as_it_was_written(home, job):
    write_job(home, "0a1b", job)
    assert read_job({JOB: "0a1b"}) == job


@pytest.mark.parametrize("name", ["", "gone", "../0a1b", "/etc/passwd", "a/b"])
def test_a_job_that_is_not_here_is_refused(home, job, name):
    write_job(home, "0a1b", job)
    with pytest.raises(FlamesError, match="there is no job"):
        read_job({JOB: name})


def start(app, name):
    app(None, Context(1, 1, {}, RecordDict(), {JOB: name}))


def test_a_jobs_server_says_why_it_could_not_begin(home, job):
    def refuse(job):
        raise FlamesError("the checkpoint is damaged")

    write_job(home, "0a1b", job)
    with pytest.raises(FlamesError):
        start(make_job_server_app(refuse), "0a1b")
    with pytest.raises(FlamesError, match="the checkpoint is damaged"):
        EventReader(job.events).read()


def test_a_fault_in_the_server_is_told_too(home, job):
    def break_down(job):
        raise ZeroDivisionError("by nothing")

    write_job(home, "0a1b", job)
    with pytest.raises(ZeroDivisionError):
        start(make_job_server_app(break_down), "0a1b")
    with pytest.raises(FlamesError, match=r"the server failed \(ZeroDivisionError: by nothing\)"):
        EventReader(job.events).read()
