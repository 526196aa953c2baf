from contextlib import nullcontext
from dataclasses import replace

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.submitted import Timing, run_submitted
from flames_cli.fed.event_log import EventLog, Lost
from flames_cli.fed.events import ClientAsked
from flames_cli.fed.jobs import JOB, Job, events_path
from flames_cli.fed.participation import Participation

EVENT = ClientAsked("a", 1)


class StubCli:
    """A SuperLink whose runs write the events that the test plays."""

    def __init__(self, home, play, status=("running", ""), answering=True):
        self.home = home
        self.answering = answering
        self.play = play
        self.status = status
        self.stopped = []
        self.looks = 0

    def submit(self, app, run_config, federation_config=None):
        assert {path.name for path in app.iterdir()} == {"pyproject.toml"}
        self.run_config = run_config
        self.play(EventLog(events_path(self.home, run_config[JOB])))
        return 7

    def answers(self):
        return self.answering

    def run_status(self, run_id):
        self.looks += 1
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def stop(self, run_id):
        self.stopped.append(run_id)


QUICK = Timing(poll_s=0.001, status_s=0.01)


@pytest.fixture
def follow(tmp_path):
    """follow(play, status): run a job to its end; the SuperLink, and the events."""

    def run(play, status=("running", ""), on_event=None, error=None, answering=True, timing=QUICK):
        cli, events = StubCli(tmp_path / "home", play, status, answering), []
        job = Job(tmp_path / "run", Participation())
        kind, words = error or (None, "")
        with pytest.raises(kind, match=words) if kind else nullcontext():
            run_submitted(cli, job, on_event or events.append, tmp_path / "log", timing=timing)
        assert list((cli.home / "jobs").iterdir()) == [], "a job is deleted however it ends"
        return cli, events

    return run


def well(log):
    log(EVENT)
    log.end()


def badly(log):
    log(EVENT)
    log.end("round 1 got no good report", 2)


def silent(log):
    """Write nothing."""


def interrupt(event):
    raise KeyboardInterrupt


def test_a_run_that_ends_well_is_not_stopped(follow):
    cli, events = follow(well)
    assert (events, cli.stopped) == ([EVENT], [])


def test_no_path_of_the_server_is_sent_to_the_nodes(follow):
    cli, _ = follow(well)
    assert set(cli.run_config) == {JOB}
    assert len(cli.run_config[JOB]) == 16


def test_a_run_fails_with_its_own_error_after_all_its_events(follow):
    cli, events = follow(badly, error=(FlamesError, "round 1 got no good report"))
    assert (events, cli.stopped) == ([EVENT], [])


def test_a_run_that_died_without_a_report_is_lost_and_the_error_names_its_log(follow):
    cli, _ = follow(
        silent, ("finished:failed", "no heartbeat"), error=(Lost, "failed, no heartbeat.*see .*log")
    )
    assert cli.stopped == []


def begins_and_dies(log):
    log.begin()
    log(EVENT)


def test_a_run_whose_process_is_gone_is_lost_immediately_whatever_flower_reports(follow):
    lost = (Lost, r"ended without a report \(Flower: running\)")
    _, events = follow(begins_and_dies, error=lost, timing=replace(QUICK, status_s=60.0))
    assert events == [EVENT]


def test_a_run_that_was_stopped_is_not_lost(follow):
    follow(begins_and_dies, ("finished:stopped", ""), error=(FlamesError, "^the run was stopped with"))


def test_a_run_that_lost_its_superlink_is_lost(follow):
    def lose(log):
        log.begin()
        log.end("the SuperLink was lost", 1, lost=True)

    follow(lose, error=(Lost, "the SuperLink was lost"))


def test_a_superlink_that_is_slow_to_answer_is_asked_again(follow):
    cli, _ = follow(silent, FlamesError("no answer"), error=(Lost, "no answer"))
    assert cli.looks == QUICK.status_attempts
    assert cli.stopped == []


def test_a_run_that_flower_never_starts_is_lost(follow):
    lost = (Lost, "Flower has not started the run")
    follow(silent, ("pending", ""), error=lost, timing=replace(QUICK, start_s=0.02))


def test_an_interrupted_run_is_stopped(follow):
    cli, _ = follow(lambda log: log(EVENT), on_event=interrupt, error=(KeyboardInterrupt, "^$"))
    assert cli.stopped == [7]


def fail(log):
    raise FlamesError("`flwr run` failed")


def test_a_run_whose_superlink_dies_as_it_is_submitted_is_lost(follow):
    follow(fail, error=(Lost, "`flwr run` failed"), answering=False)


def test_a_run_that_cannot_be_submitted_leaves_nothing(follow):
    cli, _ = follow(fail, error=(FlamesError, "`flwr run` failed"))
    assert cli.stopped == []
