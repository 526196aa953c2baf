"""A command that runs until it is told to end: by Ctrl-C, by SIGTERM or by its terminal's end, all alike."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

Tell = Callable[[str], None]
"""Is told, in one line, what has happened."""

ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def until_told_to_end() -> Iterator[None]:
    """The block ends where a signal asks for it, and that is a good end."""
    with suppress(KeyboardInterrupt), interrupted_by_signals():
        yield


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """In the block, every signal of ENDS is KeyboardInterrupt, so that it can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and it has its own
        return
    before = {number: signal.signal(number, _interrupt) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """The block, which cleans up, is not interrupted: a second Ctrl-C would leave processes behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
