"""Locks: one process at a time writes a folder, while no process reads the files that it replaces."""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import raising_not_written
from flames_cli.store.workspace import partition_file, partition_folder

IS_WINDOWS = sys.platform == "win32"

SIGNED_AT = 1 << 16 if IS_WINDOWS else 0
"""Position in a lock file of the number of the process that has locked it. Windows lets no other process read
what is locked there, which is the first 64 KiB."""

WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK}
"""Error codes of disks without locks, as on some clusters; no process is kept out there."""

POLL_SECONDS = 0.2

HOLDER = "{holder}"
"""Part of a message that becomes the number of the process that has the lock."""

ROUNDS = "+rounds"
"""Suffix after a run's name, which contains no +."""


@contextmanager
def locked(folder: Path, busy: str = "", shared: bool = False, seconds: float = 0.0) -> Iterator[None]:
    """Lock `folder`, whether or not it exists, for the block; the system unlocks it however the process ends.

    The lock file is next to the folder, so that it remains when the folder is deleted.

    Args:
        folder: the folder to lock.
        busy: message if another process has locked the folder; by default, the message for a run. HOLDER in
            it becomes the number of that process, in brackets, if it is known.
        shared: True if other processes may hold a shared lock simultaneously: all of them only read.
        seconds: time to wait until the other process unlocks the folder.

    Raises:
        FlamesError: another process still has the lock, or the parent folder cannot be written.
    """
    with _opened(folder, shared) as descriptor:
        try:
            _hold_within(descriptor, shared, seconds)
        except BlockingIOError:
            raise FlamesError(
                busy.replace(HOLDER, _holder(descriptor))
                or f"another process runs '{folder.name.removesuffix(ROUNDS)}'; wait for its end, stop it, "
                "or pass another --run"
            ) from None
        if not shared:
            _sign(descriptor)
        try:
            yield
        finally:
            _unlock(descriptor)


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait until no process has locked `folder`; makes no lock file if there is none.

    Raises:
        FlamesError: it is still locked.
    """
    if lock_file(folder).exists():
        with locked(folder, seconds=seconds):
            return


def rounds_of(run: Path) -> Path:
    """Return the folder whose lock means that a process does rounds of `run`.

    The process that does the rounds locks it, for the command that locks `run` itself. That process may run
    some seconds longer than the command.
    """
    return run.with_name(f"{run.name}{ROUNDS}")


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Lock `folder` like `locked`, but wait for the other process: for files that take long to compute and
    are written quickly."""
    with _opened(folder, shared=False) as descriptor:
        while True:
            with suppress(BlockingIOError):  # Windows itself waits 10 s only
                _lock(descriptor, shared=False, wait=True)
                break
        try:
            yield
        finally:
            _unlock(descriptor)


def reading_partition(workspace: Path, name: str) -> AbstractContextManager[None]:
    """Lock partition `name` of `workspace` against writing for a block, together with other readers."""
    if not partition_file(workspace, name).is_file():
        return nullcontext()  # there is nothing to read, and a lock should not make the folder
    busy = f"`flames partition` is writing partition '{name}'; wait for its end"
    return locked(partition_folder(workspace, name), busy, shared=True)


def writing_partition(workspace: Path, name: str) -> AbstractContextManager[None]:
    """Lock partition `name` of `workspace` for one writer for a block."""
    if not (workspace / "preprocessed").is_dir():
        return nullcontext()  # there is no data from which shards could be made
    busy = (
        f"another command is reading or writing partition '{name}'; wait for its end, or pass another --name"
    )
    return locked(partition_folder(workspace, name), busy)


def lock_file(folder: Path) -> Path:
    """Return the lock file of `folder`, which is next to it."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _opened(folder: Path, shared: bool) -> Iterator[int]:
    """Open the lock file. Its owner may write it; other users without that right may still lock it for
    reading."""
    path = lock_file(folder)
    with raising_not_written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return whether a process has locked `folder` for itself now; True if the system cannot answer.

    The lock file is only read, so that this is known in a workspace of another user.
    """
    try:
        descriptor = os.open(lock_file(folder), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        has_locks = _lock(descriptor, shared=True, wait=False)
        _unlock(descriptor)
        return not has_locks
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    """Write the number of this process and its machine into a lock file that this process has locked."""
    with suppress(OSError):  # the disk is full: the lock itself needs no space
        os.ftruncate(descriptor, SIGNED_AT)
        os.lseek(descriptor, SIGNED_AT, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())


def _holder(descriptor: int) -> str:
    """Return which process has signed a lock file, such as ` (process 5)`; empty if it is not known."""
    os.lseek(descriptor, SIGNED_AT, os.SEEK_SET)
    number, _, host = os.read(descriptor, 300).decode("utf-8", errors="replace").partition(" ")
    if not number.isdecimal():
        return ""
    return f" (process {number})" if host == socket.gethostname() else f" (process {number} of {host})"


def _hold_within(descriptor: int, shared: bool, seconds: float) -> None:
    """Try `_lock` for `seconds`. Not with `is_locked`, which itself holds the lock for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            _lock(descriptor, shared, wait=False)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_SECONDS)


def _lock(descriptor: int, shared: bool, wait: bool) -> bool:
    """Lock and return whether the disk has locks; raise BlockingIOError if another process has the lock
    and `wait` is False."""
    import portalocker  # here, since most commands lock nothing, and it takes 25 ms

    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(descriptor, kind if wait else kind | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked as error:
        raise BlockingIOError(errno.EAGAIN, "another process has locked the file") from error
    except portalocker.LockException as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in WITHOUT_LOCKS:
            return False
        raise cause or error from None
    return True


def _unlock(descriptor: int) -> None:
    """Unlock on Windows, which does so late after the file is closed; elsewhere closing it is enough.

    Elsewhere, a process that was forked has the same lock, and may need it longer.
    """
    if IS_WINDOWS:
        import portalocker

        with suppress(portalocker.LockException):  # the disk has no locks
            portalocker.unlock(descriptor)
