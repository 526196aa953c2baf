import shutil
import subprocess
import sys
import threading

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.locks import is_locked, locked, locked_within

HOLD = """
import sys, time
from pathlib import Path
from flames_cli.store.locks import locked
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
    with pytest.raises(FlamesError), locked_within(tmp_path / "one", 0.0):
        pass
    threading.Timer(0.1, lambda: held.__exit__(None, None, None)).start()
    with locked_within(tmp_path / "one", 30.0):
        assert is_locked(tmp_path / "one")


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
