import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.engines import submitted
from flames_cli.fed.engines.submitted import run_submitted
from flames_cli.fed.event_log import EventLog, Lost
from flames_cli.fed.events import ClientAsked
from flames_cli.fed.jobs import JOB, Job, events_path
from flames_cli.fed.participation import Participation

EVENT = ClientAsked("a", 1)


class StubCli:
    """A SuperLink whose runs tell what the test says."""

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


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(submitted, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(submitted, "LOOK_SECONDS", 0.01)


@pytest.fixture
def follow(tmp_path):
    """follow(play, status): run a job to its end; the SuperLink, and what was told."""

    def run(play, status=("running", ""), on_event=None, error=None, answering=True):
        cli, told = StubCli(tmp_path / "home", play, status, answering), []
        job = Job(tmp_path / "run", Participation())
        if error is None:
            run_submitted(cli, job, on_event or told.append, tmp_path / "log")
        else:
            kind, words = error
            with pytest.raises(kind, match=words):
                run_submitted(cli, job, on_event or told.append, tmp_path / "log")
        assert list((cli.home / "jobs").iterdir()) == [], "a job is taken back however it ends"
        return cli, told

    return run


def well(log):
    log(EVENT)
    log.end()


def badly(log):
    log(EVENT)
    log.end("round 1 got no good report", 2)


def silent(log):
    """Says nothing."""


def interrupt(event):
    raise KeyboardInterrupt


def test_a_run_that_ends_well_is_told_and_not_stopped(follow):
    cli, told = follow(well)
    assert (told, cli.stopped) == ([EVENT], [])


def test_no_path_of_the_server_travels_to_the_nodes(follow):
    cli, _ = follow(well)
    assert set(cli.run_config) == {JOB}
    assert len(cli.run_config[JOB]) == 16


def test_a_run_fails_in_its_own_words_after_all_that_it_told(follow):
    cli, told = follow(badly, error=(FlamesError, "round 1 got no good report"))
    assert (told, cli.stopped) == ([EVENT], [])


def test_a_run_that_died_without_a_word_is_lost_and_told_with_its_log(follow):
    cli, _ = follow(
        silent, ("finished:failed", "no heartbeat"), error=(Lost, "failed, no heartbeat.*see .*log")
    )
    assert cli.stopped == []


def begins_and_dies(log):
    log.begin()
    log(EVENT)


def test_a_run_whose_process_is_gone_is_lost_at_once_whatever_flower_thinks(follow, monkeypatch):
    monkeypatch.setattr(submitted, "LOOK_SECONDS", 60.0)
    _, told = follow(begins_and_dies, error=(Lost, r"ended without a word \(Flower: running\)"))
    assert told == [EVENT]


def test_a_run_that_somebody_stops_is_not_lost(follow):
    follow(begins_and_dies, ("finished:stopped", ""), error=(FlamesError, "^somebody has stopped the run"))


def test_a_run_that_lost_its_superlink_is_lost(follow):
    def lose(log):
        log.begin()
        log.end("the SuperLink was lost", 1, lost=True)

    follow(lose, error=(Lost, "the SuperLink was lost"))


def test_a_superlink_that_is_slow_to_answer_is_asked_again(follow):
    cli, _ = follow(silent, FlamesError("no answer"), error=(Lost, "no answer"))
    assert cli.looks == submitted.LOOKS
    assert cli.stopped == []


def test_a_run_that_flower_never_starts_is_lost(follow, monkeypatch):
    monkeypatch.setattr(submitted, "START_SECONDS", 0.02)
    follow(silent, ("pending", ""), error=(Lost, "Flower has not started the run"))


def test_an_interrupted_run_is_stopped(follow):
    cli, _ = follow(lambda log: log(EVENT), on_event=interrupt, error=(KeyboardInterrupt, "^$"))
    assert cli.stopped == [7]


def refuse(log):
    raise FlamesError("`flwr run` failed")


def test_a_run_whose_superlink_dies_as_it_is_submitted_is_lost(follow):
    follow(refuse, error=(Lost, "`flwr run` failed"), answering=False)


def test_a_run_that_cannot_be_submitted_leaves_nothing(follow):
    cli, _ = follow(refuse, error=(FlamesError, "`flwr run` failed"))
    assert cli.stopped == []
