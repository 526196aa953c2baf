import shutil
import subprocess
import sys

import pytest

from flames_cli.errors import FlamesError
from flames_cli.store.locks import locked

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
    finally:
        other.kill()
        other.communicate()
    with locked(run):
        pass


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
