"""Signals that end a command, and those that were ignored when it started."""

import os
import signal
import sys
import threading
import time
import weakref

import pytest

from flames_cli.stages.deploy.foreground import ENDS, interrupted_by_signals, uninterrupted, until_signal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _same_handlers_after():
    before = {number: signal.getsignal(number) for number in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDS)
def test_each_signal_ends_the_command_without_an_error(number):
    reached = []
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    with until_signal():
        send(number)
        reached.append(number)
    assert not reached


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("block", [until_signal, interrupted_by_signals])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(number, block):
    reached = []
    signal.signal(number, signal.SIG_IGN)
    with block():
        send(number)
        reached.append(number)
    assert reached == [number]
    assert signal.getsignal(number) == signal.SIG_IGN


def test_under_nohup_other_signals_still_end_the_command():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
            send(number)


def test_ctrl_c_ends_a_command_that_a_script_started_in_the_background():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        send(signal.SIGINT)


def test_a_block_that_cleans_up_ignores_signals_and_leaves_nohups_as_they_were():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupted_by_signals():
        with uninterrupted():
            for number in ENDS:
                send(number)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


class Sending:
    """An object whose end sends a signal."""

    def __init__(self, number=signal.SIGINT):
        self.number = number

    def __del__(self):
        send(self.number)


def end_with_callback():
    thing = type("Thing", (), {})()
    reference = weakref.ref(thing, lambda _: send(signal.SIGINT))
    del thing
    assert reference() is None


@pytest.mark.parametrize("end", [lambda: Sending() and None, end_with_callback])
def test_a_signal_that_arrives_in_a_callback_whose_errors_python_ignores_is_not_lost(end, monkeypatch):
    reported = []

    def report(lost):
        reported.append(lost)

    monkeypatch.setattr(sys, "unraisablehook", report)
    went_on = []

    def work():
        end()
        went_on.append(True)
        time.sleep(30)

    with pytest.raises(KeyboardInterrupt), interrupted_by_signals():
        work()
    assert went_on
    assert not reported
    assert sys.unraisablehook is report


def test_another_error_in_such_a_callback_is_reported_as_before(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: reported.append(lost.exc_type))
    thing = type("Broken", (), {"__del__": lambda self: 1 // 0})()
    with interrupted_by_signals():
        del thing
    assert reported == [ZeroDivisionError]


def test_a_lost_signal_is_not_sent_after_the_end_of_the_block(monkeypatch):
    monkeypatch.setattr("flames_cli.stages.deploy.foreground.AGAIN_SECONDS", 30.0)
    before = set(threading.enumerate())
    with interrupted_by_signals():
        end_with_callback()
        (waiting,) = set(threading.enumerate()) - before
    waiting.join(10)
    assert not waiting.is_alive()


def test_in_another_thread_no_handler_is_set():
    before = {number: signal.getsignal(number) for number in ENDS}
    found = []

    def work():
        with interrupted_by_signals():
            found.append({number: signal.getsignal(number) for number in ENDS})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
