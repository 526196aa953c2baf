"""One process at a time writes a run."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flames_cli.errors import FlamesError

POLL_SECONDS = 0.2


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` (there or not) for the block; the system frees it, however the process ends.

    The lock's file lies beside the folder, so that it outlives the folder's removal.

    Raises:
        FlamesError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            _lock(descriptor)
        except BlockingIOError:
            raise FlamesError(
                f"another process runs '{folder.name}'; wait for its end, stop it, or pass another --run"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds `folder` now; True where the system cannot tell."""
    try:
        descriptor = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor)
    except OSError:  # held; or a disk that has no locks, where nobody knows
        return True
    finally:
        os.close(descriptor)
    return sys.platform == "win32"


@contextmanager
def locked_within(folder: Path, seconds: float) -> Iterator[None]:
    """As `locked`; waits for up to `seconds` for whoever holds it to end.

    Raises:
        FlamesError: another process holds it still.
    """
    deadline = time.monotonic() + seconds
    while is_locked(folder) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    with locked(folder):
        yield


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        """Windows has no such locks; nobody is kept out."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Raises BlockingIOError where another process holds it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
