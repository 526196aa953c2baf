"""A server or a node ends with the command that started it, even where that one is killed."""

import os
import signal
import threading
import time

PARENT = "FLAMES_PARENT"
"""In the environment: the process that `start` started this one for."""

POLL_SECONDS = 1.0


def end_with_parent() -> None:
    """Send this process SIGTERM once the command that started it is gone, if `start` started it."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
