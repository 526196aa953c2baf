"""A server or a node ends with its SuperExec, Flower's process that starts those of the apps.

Flower goes on without it: it takes what it is asked to do, and nobody ever does it.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from flames_cli.flower.families import living

PROGRAM = "flower-superexec"

POLL_SECONDS = 2.0
GRACE_SECONDS = 10.0
"""For the end of this process, where that is why its SuperExec has ended."""


def end_with_superexec() -> None:
    """Send this process SIGTERM soon after its SuperExec has ended; whoever started it starts it anew."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while (superexec := _find()) is None:
        time.sleep(POLL_SECONDS)
    while living([superexec]):
        time.sleep(POLL_SECONDS)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _find() -> psutil.Process | None:
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any(Path(part).name == PROGRAM for part in child.cmdline()):
                return child
    return None
