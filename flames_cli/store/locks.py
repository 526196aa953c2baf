"""One process at a time writes a run."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flames_cli.errors import FlamesError


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


if sys.platform == "win32":

    def _lock(descriptor: int) -> None:
        """Windows has no such locks; nobody is kept out."""

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Raises BlockingIOError where another process holds it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
