import errno
import importlib
import os
import shutil
import subprocess
import sys
import threading
from types import ModuleType

import portalocker
import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.files import locks
from flames_cli.store.files.locks import (
    HOLDER,
    in_turn,
    is_locked,
    locked,
    reading_partition,
    writing_partition,
)
from flames_cli.store.workspace import partition_file, partition_folder

HOLD = """
import sys, time
from pathlib import Path
from flames_cli.store.files.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_cannot_run_one_run_and_a_killed_one_lets_go(tmp_path):
    run = tmp_path / "runs" / "ä b"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(FlamesError, match="another process runs 'ä b'; wait for its end"),
            locked(run),
        ):
            pass
        assert is_locked(run)
    finally:
        other.kill()
        other.communicate()
    assert not is_locked(run)
    with locked(run):
        pass


def test_checking_a_lock_makes_no_file(tmp_path):
    assert not is_locked(tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_checked_in_a_workspace_that_cannot_be_written(tmp_path, monkeypatch):
    with locked(tmp_path / "one"):
        pass
    opened = os.open

    def read_only(path, flags, *mode):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, *mode)

    held = locked(tmp_path / "other")
    held.__enter__()
    monkeypatch.setattr(os, "open", read_only)
    assert [is_locked(tmp_path / name) for name in ("one", "other", "none")] == [False, True, False]
    held.__exit__(None, None, None)


def test_a_run_that_is_held_for_a_moment_is_waited_for(tmp_path):
    held = locked(tmp_path / "one")
    held.__enter__()
    with pytest.raises(FlamesError), locked(tmp_path / "one"):
        pass
    threading.Timer(0.1, lambda: held.__exit__(None, None, None)).start()
    with locked(tmp_path / "one", seconds=30.0):
        assert is_locked(tmp_path / "one")


def test_checking_a_lock_does_not_disturb_a_waiting_process(tmp_path):
    looks, over = tmp_path / "one", threading.Event()

    def look():
        while not over.is_set():
            is_locked(looks)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(300):
            with locked(looks, seconds=30.0):
                pass
    finally:
        over.set()
        looker.join()


def test_a_run_stays_locked_while_its_folder_is_replaced(tmp_path):
    run = tmp_path / "runs" / "mine"
    with locked(run):
        run.mkdir()
        shutil.rmtree(run)
        with pytest.raises(FlamesError), locked(run):
            pass


def test_other_runs_are_free(tmp_path):
    with locked(tmp_path / "one"), locked(tmp_path / "other"):
        pass


@pytest.fixture
def parts(tmp_path):
    """Return a workspace with two partitions, and the files from which they are made."""
    (tmp_path / "preprocessed").mkdir()
    for name in ("default", "other"):
        partition_folder(tmp_path, name).mkdir(parents=True)
        partition_file(tmp_path, name).touch()
    return tmp_path


def refused(hold, workspace):
    with pytest.raises(FlamesError, match="wait for its end") as caught, hold(workspace, "default"):
        pass
    return str(caught.value)


def test_a_partition_is_read_by_many_and_made_by_one_alone(parts):
    with reading_partition(parts, "default"), reading_partition(parts, "default"):
        assert "another command is reading or writing partition 'default'" in refused(
            writing_partition, parts
        )
    with writing_partition(parts, "default"):
        assert "`flames partition` is writing partition 'default'" in refused(reading_partition, parts)
        refused(writing_partition, parts)


def test_other_partitions_are_free(parts):
    with writing_partition(parts, "default"), writing_partition(parts, "other"):
        pass
    with writing_partition(parts, "default"), reading_partition(parts, "other"):
        pass


def test_a_lock_makes_no_workspace(tmp_path):
    for hold in (reading_partition, writing_partition):
        with hold(tmp_path / "none", "default"):
            assert list(tmp_path.iterdir()) == []


def test_a_writer_in_turn_waits_for_the_one_before(tmp_path):
    done = []

    def write():
        with in_turn(tmp_path / "evaluation"):
            done.append("second")

    second = threading.Thread(target=write)
    with in_turn(tmp_path / "evaluation"):
        second.start()
        second.join(0.05)
        done.append("first")
    second.join()
    assert done == ["first", "second"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_on_a_disk_without_locks_no_process_is_kept_out(number, tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(number, "no locks")

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", refuse)
    with locked(tmp_path / "one"), locked(tmp_path / "one"):
        pass


def test_any_other_error_of_a_disk_is_passed_on(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(portalocker.portalocker, "LOCKER", refuse)
    with pytest.raises(OSError, match="broken"), locked(tmp_path / "one"):
        pass


class Windows:
    """Windows' locks of ranges of bytes, as far as portalocker uses them; a range belongs to a descriptor.

    They are mandatory: another descriptor can neither read nor write a range that is locked. A lock outlives
    its descriptor, as if the system were slow to release it.
    """

    LK_UNLCK, LK_LOCK, LK_NBLCK, LK_RLCK, LK_NBRLCK = range(5)
    LOCKFILE_FAIL_IMMEDIATELY, LOCKFILE_EXCLUSIVE_LOCK = 1, 2
    ERROR_LOCK_VIOLATION, ERROR_NOT_LOCKED = 33, 158
    OVERLAPPED = object

    class error(Exception):
        def __init__(self, winerror):
            super().__init__(winerror)
            self.winerror, self.strerror = winerror, "the call failed"

    def __init__(self):
        self.held: list[tuple[int, int, int, bool]] = []
        self.read = os.read

    def conflicts(self, descriptor, low, high, exclusive):
        inode = os.fstat(descriptor).st_ino
        return [
            lock for lock in self.held
            if lock[0] == inode and lock[2] > low and lock[1] < high and (exclusive or lock[4])
        ]  # fmt: skip

    def take(self, descriptor, length, exclusive):
        low = os.lseek(descriptor, 0, os.SEEK_CUR)
        if self.conflicts(descriptor, low, low + length, exclusive):
            return False
        self.held.append((os.fstat(descriptor).st_ino, low, low + length, descriptor, exclusive))
        return True

    def drop(self, descriptor, exclusive):
        inode = os.fstat(descriptor).st_ino
        own = [lock for lock in self.held if lock[0] == inode and lock[3:] == (descriptor, exclusive)]
        for lock in own:
            self.held.remove(lock)
        return bool(own)

    def locking(self, descriptor, mode, length):
        if mode == self.LK_UNLCK:
            if not self.drop(descriptor, True):
                raise PermissionError(errno.EACCES, "not locked")
        elif not self.take(descriptor, length, True):
            raise OSError(errno.EACCES if mode == self.LK_NBLCK else 36, "locked")

    def get_osfhandle(self, descriptor):
        return descriptor

    def LockFileEx(self, descriptor, mode, low, high, overlapped):
        exclusive = bool(mode & self.LOCKFILE_EXCLUSIVE_LOCK)
        if not self.take(descriptor, 2**32 + high, exclusive):
            raise self.error(self.ERROR_LOCK_VIOLATION)

    def UnlockFileEx(self, descriptor, low, high, overlapped):
        if not self.drop(descriptor, False):
            raise self.error(self.ERROR_NOT_LOCKED)

    def reading(self, descriptor, length):
        low = os.lseek(descriptor, 0, os.SEEK_CUR)
        others = [lock for lock in self.held if lock[3] != descriptor and lock[4]]
        if any(lock in others for lock in self.conflicts(descriptor, low, low + length, True)):
            raise PermissionError(errno.EACCES, "locked")
        return self.read(descriptor, length)


@pytest.fixture
def windows(monkeypatch):
    """Load portalocker as on Windows, over a system that this process simulates."""
    system = Windows()
    for name in ("msvcrt", "pywintypes", "win32con", "win32file", "winerror"):
        module = ModuleType(name)
        for attribute in dir(system):
            if not attribute.startswith("_"):
                setattr(module, attribute, getattr(system, attribute))
        monkeypatch.setitem(sys.modules, name, module)
    for name in [name for name in sys.modules if name.partition(".")[0] == "portalocker"]:
        monkeypatch.delitem(sys.modules, name)
    with monkeypatch.context() as during:
        during.setattr(os, "name", "nt")
        monkeypatch.setitem(sys.modules, "portalocker", importlib.import_module("portalocker"))
    monkeypatch.setattr(os, "read", system.reading)
    monkeypatch.setattr(locks, "IS_WINDOWS", True)
    monkeypatch.setattr(locks, "SIGNED_AT", 1 << 16)
    yield system
    for name in [name for name in sys.modules if name.partition(".")[0] == "portalocker"]:
        del sys.modules[name]


def test_windows_keeps_a_second_process_out_and_names_the_first(windows, tmp_path):
    with (
        locked(tmp_path / "one"),
        pytest.raises(FlamesError, match=rf"^taken \(process {os.getpid()}\)$"),
        locked(tmp_path / "one", f"taken{HOLDER}"),
    ):
        pass
    assert windows.held == [], "a lock is released before its file is closed"
    with locked(tmp_path / "one"):
        assert is_locked(tmp_path / "one")
    assert not is_locked(tmp_path / "one")
    assert windows.held == []


def test_windows_has_shared_locks_too(windows, parts):
    with reading_partition(parts, "default"), reading_partition(parts, "default"):
        refused(writing_partition, parts)
    with writing_partition(parts, "default"):
        refused(reading_partition, parts)
    assert windows.held == []


def test_windows_waits_in_turn_longer_than_its_own_ten_seconds(windows, tmp_path):
    begun, done = threading.Event(), []

    def write():
        begun.set()
        with in_turn(tmp_path / "evaluation"):
            done.append("second")

    second = threading.Thread(target=write)
    with in_turn(tmp_path / "evaluation"):
        second.start()
        begun.wait()
        done.append("first")
    second.join()
    assert done == ["first", "second"]
