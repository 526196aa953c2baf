"""One process at a time writes a folder, while nobody reads what it replaces."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import telling_in_one_line

WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
"""What a disk answers that has no locks, as some of clusters; nobody is kept out there."""

POLL_SECONDS = 0.2

ROUNDS = "+rounds"
"""After a run's name, which has no +."""


@contextmanager
def locked(folder: Path, busy: str = "", shared: bool = False, seconds: float = 0.0) -> Iterator[None]:
    """Hold `folder` (there or not) for the block; the system frees it, however the process ends.

    The lock's file lies beside the folder, so that it outlives the folder's removal.

    Args:
        folder: to hold.
        busy: what to tell where another process holds it; by default, of a run.
        shared: whether others may hold it so at the same time: they all read.
        seconds: to wait for whoever holds it to end.

    Raises:
        FlamesError: another process holds it still, or the folder beside cannot be written.
    """
    with _opened(folder, shared) as descriptor:
        try:
            _hold_within(descriptor, shared, seconds)
        except BlockingIOError:
            raise FlamesError(
                busy
                or f"another process runs '{folder.name.removesuffix(ROUNDS)}'; wait for its end, stop it, "
                "or pass another --run"
            ) from None
        yield


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait for whoever holds `folder` to end; makes no lock where there never was one.

    Raises:
        FlamesError: it is held still.
    """
    if lock_file(folder).exists():
        with locked(folder, seconds=seconds):
            return


def rounds_of(run: Path) -> Path:
    """What the process holds that does the rounds of `run` for the command that holds `run` itself: it may
    outlive that command by some seconds."""
    return run.with_name(f"{run.name}{ROUNDS}")


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """As `locked`, but wait for whoever holds `folder`: of what takes long to make and is written at once."""
    with _opened(folder, shared=False) as descriptor:
        _lock(descriptor, shared=False, wait=True)
        yield


def reading_shards(workspace: Path) -> AbstractContextManager[None]:
    """Hold the shards of `workspace` as they are for a block, beside others who read them."""
    if not (workspace / "partition.json").is_file():
        return nullcontext()  # there is nothing to read, and it is not for a lock to make the folder
    busy = "`flames partition` makes this workspace's shards anew at the moment; wait for its end"
    return locked(workspace / "shards", busy, shared=True)


def writing_shards(workspace: Path) -> AbstractContextManager[None]:
    """Hold the shards of `workspace` alone for a block."""
    if not (workspace / "preprocessed").is_dir():
        return nullcontext()  # there is nothing to make them from
    busy = "another command reads or writes this workspace's shards at the moment; wait for its end"
    return locked(workspace / "shards", busy)


def lock_file(folder: Path) -> Path:
    """Beside `folder`: what is held for it."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _opened(folder: Path, shared: bool) -> Iterator[int]:
    """The lock's file. Its owner writes it; others, who have no right to that, may still hold it to read."""
    path = lock_file(folder)
    with telling_in_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds `folder` now; True where the system cannot tell."""
    try:
        descriptor = os.open(lock_file(folder), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, shared=False, wait=False)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _hold_within(descriptor: int, shared: bool, seconds: float) -> None:
    """As `_lock`, trying for so long: not by `is_locked`, which for a moment holds the lock itself."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            _lock(descriptor, shared, wait=False)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


if sys.platform == "win32":

    def _lock(descriptor: int, shared: bool, wait: bool) -> bool:  # noqa: ARG001
        """Windows has no such locks; nobody is kept out."""
        return False

else:
    import fcntl

    def _lock(descriptor: int, shared: bool, wait: bool) -> bool:
        """Whether the disk has locks; raises BlockingIOError where another process holds it and no wait."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            return False
        return True
