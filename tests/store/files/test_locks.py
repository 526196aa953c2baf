import errno
import shutil
import subprocess
import sys
import threading

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.files.locks import in_turn, is_locked, locked, reading_shards, writing_shards

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


def test_who_never_held_anything_leaves_nothing(tmp_path):
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


def test_a_look_at_a_lock_refuses_nobody_who_waits(tmp_path):
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


def test_a_run_stays_locked_while_its_folder_is_made_anew(tmp_path):
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
def shards(tmp_path):
    """A workspace that has shards, and what they are made from."""
    (tmp_path / "preprocessed").mkdir()
    (tmp_path / "partition.json").touch()
    return tmp_path


def refused(hold, workspace):
    with pytest.raises(FlamesError, match="wait for its end") as caught, hold(workspace):
        pass
    return str(caught.value)


def test_shards_are_read_by_many_and_made_by_one_alone(shards):
    with reading_shards(shards), reading_shards(shards):
        assert "another command is reading or writing" in refused(writing_shards, shards)
    with writing_shards(shards):
        assert "`flames partition` is writing this workspace's shards" in refused(reading_shards, shards)
        refused(writing_shards, shards)


def test_a_lock_makes_no_workspace(tmp_path):
    for hold in (reading_shards, writing_shards):
        with hold(tmp_path / "none"):
            assert list(tmp_path.iterdir()) == []


def test_who_writes_in_turn_waits_for_the_one_before(tmp_path):
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
def test_where_a_disk_has_no_locks_nobody_is_kept_out(number, tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(number, "no locks")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with locked(tmp_path / "one"), locked(tmp_path / "one"):
        pass
