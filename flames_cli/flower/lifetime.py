"""The end of a server or node process when a process that it depends on ends.

Those are the command that started it, which may be killed, and the SuperExec of a server: the process of
Flower that starts the processes of runs. Without it, Flower continues to accept runs that never start.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from flames_cli.flower.processes import PARENT, living

PROGRAM = "flower-superexec"

PARENT_POLL_SECONDS = 1.0
POLL_SECONDS = 2.0
GRACE_SECONDS = 10.0
"""Time between the end of the SuperExec and SIGTERM: this process may be ending already, SuperExec first."""


def end_with_parent() -> None:
    """Send this process SIGTERM when the command that called `processes.start` for it has ended."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch_parent, args=(int(parent),), daemon=True).start()


def end_with_superexec(poll_seconds: float = POLL_SECONDS, grace_seconds: float = GRACE_SECONDS) -> None:
    """Send this process SIGTERM `grace_seconds` after its SuperExec has ended.

    The command that started this process starts it again.
    """
    threading.Thread(target=_watch_superexec, args=(poll_seconds, grace_seconds), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _watch_superexec(poll_seconds: float, grace_seconds: float) -> None:
    while (superexec := _find_superexec()) is None:
        time.sleep(poll_seconds)
    while living([superexec]):
        time.sleep(poll_seconds)
    time.sleep(grace_seconds)
    os.kill(os.getpid(), signal.SIGTERM)


def _find_superexec() -> psutil.Process | None:
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(Path(part).name == PROGRAM for part in child.cmdline()):
                return child
    return None
