"""A run at a server that dies: it is submitted again, a limited number of times."""

from contextlib import nullcontext

import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.engines import superlink
from flames_cli.fed.engines.superlink import Patience, run_at_server
from flames_cli.fed.event_log import Lost
from flames_cli.fed.events import RoundDone, Waiting
from flames_cli.fed.jobs import Job
from flames_cli.fed.participation import Participation
from tests.support.flower import StubCli


@pytest.fixture
def at_server(tmp_path, monkeypatch):
    """at_server(play, …): a run whose attempts are those plays; the SuperLink, and the events.

    A play gets `on_event`; `there` has the attempts at which the SuperLink answers, by default all.
    """
    patience = Patience(at_least_s=0.05, poll_s=0.001)

    def run(*plays, there=None, error="", last_round=0):
        cli, events, left = StubCli(), [], list(plays)
        looks = iter(there or [])
        monkeypatch.setattr(superlink, "run_submitted", lambda cli, job, on_event, log: left.pop(0)(on_event))
        job = Job(tmp_path / "run", Participation())

        def find():
            return cli if next(looks, there is None) else None

        with pytest.raises(FlamesError, match=error) if error else nullcontext():
            run_at_server(find, job, last_round, events.append, tmp_path / "log", patience)
        assert left == []
        return cli, events

    return run


def well(on_event):
    on_event(RoundDone({"round": 9}))


def lost(*rounds, run_id=7):
    """An attempt that is lost after these complete rounds."""

    def play(on_event):
        for round_ in rounds:
            on_event(RoundDone({"round": round_}))
        error = Lost("its process ended without a report")
        error.run_id = run_id
        raise error

    return play


def test_a_run_that_ends_well_is_submitted_once(at_server):
    cli, events = at_server(well)
    assert (events, cli.stopped) == ([RoundDone({"round": 9})], [])


def test_a_lost_run_is_announced_stopped_and_submitted_again(at_server):
    cli, events = at_server(lost(1, 2), well)
    assert cli.stopped == [7]
    assert [type(event) for event in events] == [RoundDone, RoundDone, Waiting, RoundDone]
    assert events[2].round == 3
    assert "ended without a report" in events[2].missing


def test_a_run_that_never_got_a_number_needs_no_stop(at_server):
    assert at_server(lost(run_id=None), well)[0].stopped == []


def test_a_server_that_comes_back_in_time_is_waited_for(at_server):
    at_server(lost(), well, there=[True, False, False, True])


def test_a_server_that_stays_away_ends_the_run_with_the_way_to_continue(at_server):
    at_server(
        lost(3),
        there=[True],
        error=r"no server has answered .* start it with `flames deploy server`, then run the same command "
        "again: it continues after its last complete round",
    )


def test_a_server_that_was_never_there_is_not_waited_for(at_server):
    at_server(there=[False], error="no server has answered on this machine for 0 s")


def test_a_run_that_is_lost_again_and_again_is_given_up(at_server):
    at_server(
        *[lost()] * superlink.ATTEMPTS,
        error=r"round 1 was lost 4 times in a row; the last time: its process ended",
    )


def test_a_run_that_makes_progress_is_not_given_up(at_server):
    at_server(*[lost(round_) for round_ in range(1, 9)], well)


def test_a_run_that_ends_with_an_error_is_not_submitted_again(at_server):
    def fail(on_event):
        raise FlamesError("round 1 got no good report")

    at_server(fail, error="^round 1 got no good report")
