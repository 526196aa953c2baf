"""The processes that a process has started, and theirs."""

import time
from collections.abc import Iterable

import psutil

POLL_SECONDS = 0.1
ORPHAN_SECONDS = 3.0
"""Processes have to end after the one that started them."""


def descendants(pid: int) -> list[psutil.Process]:
    """All that process `pid` has started and that what it started has; none where it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def living(family: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only waits for its parent to read its status does not."""
    return [process for process in family if process.is_running() and not _is_zombie(process)]


def wait_for_end(family: Iterable[psutil.Process]) -> None:
    """Wait until none of them runs, for a few seconds."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while living(family) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
