"""Commands that run until a signal ends them: Ctrl-C, SIGTERM or the end of the terminal.

A signal that is ignored when the command starts stays ignored, as users of `nohup` expect of SIGHUP. Ctrl-C's
SIGINT alone always ends a command: a script starts every background job (`flames … &`) with SIGINT ignored,
and then only `kill -TERM` could end it.

Python prints an exception that a callback of the interpreter raises, such as `__del__` or that of a weak
reference, and continues. If a signal arrives during such a callback, its KeyboardInterrupt would be lost: the
signal is sent again.
"""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

Notify = Callable[[str], None]
"""Function that shows one line about what has happened."""

ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

AGAIN_SECONDS = 0.1
"""Time after which a signal whose KeyboardInterrupt was lost is sent again; the callback has then ended."""


@contextmanager
def until_signal() -> Iterator[None]:
    """End the block without an error when a signal of ENDS arrives."""
    with suppress(KeyboardInterrupt), interrupted_by_signals():
        yield


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block for every signal of ENDS, so that the block can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return
    before = {number: signal.signal(number, _interrupt) for number in ENDS if not _stays_ignored(number)}
    try:
        with _sent_again():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _sent_again() -> Iterator[None]:
    """Send SIGINT again in the block whenever the interpreter reports a KeyboardInterrupt that was lost."""
    before, ended = sys.unraisablehook, threading.Event()

    def look(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            threading.Thread(target=_send_later, args=(ended,), daemon=True).start()
        else:
            before(lost)

    sys.unraisablehook = look
    try:
        yield
    finally:
        ended.set()
        sys.unraisablehook = before


def _send_later(ended: threading.Event) -> None:
    if ended.wait(AGAIN_SECONDS):
        return
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGINT)  # wakes a sleeping main thread
    else:
        _thread.interrupt_main()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore the signals of ENDS in the block, so that a second Ctrl-C leaves no processes behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stays_ignored(number: signal.Signals) -> bool:
    return number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
