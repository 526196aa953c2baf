import pytest

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.fed import waiting
from flames_cli.fed.pace import Pace
from flames_cli.fed.waiting import GO_ON, finish, together

QUICK = Pace(poll_s=0.001)


@pytest.fixture
def sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr(waiting.time, "sleep", slept.append)
    return slept


def work(name, steps, done, result=None, error=None):
    for step in steps:
        done.append(name)
        yield step
    if error:
        raise error
    return result or name


def test_work_is_done_to_its_end_with_a_sleep_at_each_wait(sleeps):
    done = []
    assert finish(work("a", [None, GO_ON, None], done), QUICK) == "a"
    assert done == ["a", "a", "a"]
    assert sleeps == [QUICK.poll_s, QUICK.poll_s]


def test_works_take_turns_and_a_slow_one_does_not_stop_the_others(sleeps):
    done = []
    works = {"slow": work("slow", 5 * [None], done), "quick": work("quick", [None], done)}
    assert finish(together(works), QUICK) == {"slow": "slow", "quick": "quick"}
    assert done == ["slow", "quick", "slow", "slow", "slow", "slow"]


def test_there_is_no_sleep_while_one_of_the_works_can_go_on(sleeps):
    works = {"waits": work("waits", 3 * [None], []), "goes on": work("goes on", 3 * [GO_ON], [])}
    finish(together(works), QUICK)
    assert sleeps == []


def test_a_work_that_fails_does_not_stop_the_others(sleeps):
    done, fault = [], FlamesError("no client")
    works = {"bad": work("bad", [None], done, error=fault), "good": work("good", 4 * [None], done)}
    assert finish(together(works), QUICK) == {"bad": fault, "good": "good"}
    assert done.count("good") == 4


@pytest.mark.parametrize("error", [NotWritten("full"), ValueError("a bug"), KeyboardInterrupt()])
def test_an_error_that_concerns_all_works_ends_them(sleeps, error):
    works = {"bad": work("bad", [], [], error=error), "good": work("good", [None], [])}
    with pytest.raises(type(error)):
        finish(together(works), QUICK)


def test_a_pause_lasts_its_time_however_often_it_is_asked(monkeypatch):
    now = iter([0.0, 0.4, 0.9, 1.1])
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(now))
    assert list(waiting.pause(1.0)) == [None, None, None]
