"""Signals that end a command, and those that were ignored when it started."""

import os
import signal
import threading

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
