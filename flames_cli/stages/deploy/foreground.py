"""Commands that run until a signal ends them: Ctrl-C, SIGTERM or the end of the terminal.

A signal that is ignored when the command starts stays ignored, as users of `nohup` expect of SIGHUP. Ctrl-C's
SIGINT alone always ends a command: a script starts every background job (`flames … &`) with SIGINT ignored,
and then only `kill -TERM` could end it.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

Notify = Callable[[str], None]
"""Function that shows one line about what has happened."""

ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


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
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
