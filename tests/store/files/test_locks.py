import errno
import shutil
import subprocess
import sys
import threading

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.files.locks import in_turn, is_locked, locked, reading_partition, writing_partition
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

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with locked(tmp_path / "one"), locked(tmp_path / "one"):
        pass
