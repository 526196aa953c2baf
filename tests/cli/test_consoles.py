"""Terminals that cannot move their cursor, logs, and odd numbers of columns."""

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from flames_cli.cli.consoles import NARROWEST, USUAL, results, watching
from tests.support.command_line import shell_environment

SHOW = """
from flames_cli.cli.consoles import watching
from flames_cli.cli.live import FederationView, progress_bars
from flames_cli.fed.events import FederationStarted, RoundDone, StepDone
console = watching()
with progress_bars(console, clock=iter(range(0, 10**6, 100)).__next__) as progress:
    progress("reading", 1, 2)
with FederationView(console, "flames", on_cpu=True, clock=iter(range(0, 10**6, 100)).__next__) as view:
    view(FederationStarted((("busi", "US", 9),), 1, 2))
    view(StepDone("busi", 1, 1, 9))
    view(RoundDone({"round": 1, "seconds": 75.0, "clients": [], "rejected": {}, "unchanged_groups": []}))
"""
LINES = ["reading: 1 of 2", "flames: round 1/2, busi: training 1/9; measuring the first steps"]
LINES += ["flames: round 1/2 in 1 min"]


def shown(terminal, **environment):
    """What a process writes to stderr, which is a terminal or a file."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with os.fdopen(ours, "rb", buffering=0) as reader:
        process = subprocess.Popen(
            [sys.executable, "-c", SHOW], stderr=theirs, env=shell_environment(**environment)
        )
        os.close(theirs)
        parts = []
        try:
            while part := reader.read(1 << 16):
                parts.append(part)
        except OSError:  # the other end of a terminal was closed
            pass
        assert process.wait() == 0
    return b"".join(parts).decode()


@pytest.mark.parametrize(
    ("terminal", "environment"),
    [(False, {}), (False, {"FORCE_COLOR": "1", "TERM": "xterm"}), (True, {"TERM": "dumb"})],
    ids=["log", "log with colours", "dumb terminal"],
)
def test_without_a_cursor_progress_is_lines(terminal, environment):
    written = shown(terminal, **environment).replace("\r\n", "\n")
    assert "\r" not in written
    assert re.sub(r"\x1b\[[0-9;]*m", "", written).splitlines() == LINES


def test_no_color_leaves_the_live_view_without_colours():
    written = shown(True, TERM="xterm", NO_COLOR="1")
    assert "flames: round 1 of 2" in written
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", written)


@pytest.mark.parametrize(("columns", "width"), [("10", USUAL), ("0", USUAL), ("x", USUAL), ("200", 200)])
def test_tables_in_a_log_are_never_narrow(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert results().width == watching().width == width


def test_a_narrow_terminal_gets_tables_that_it_wraps(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "12")
    assert results().width == NARROWEST
    monkeypatch.setenv("COLUMNS", "60")
    assert results().width == 60


def test_a_home_that_cannot_be_written_is_no_matter_for_figures(tmp_path):
    """Nobody can make a folder in /proc."""
    script = (
        "from flames_cli.cli.app import flames; flames(); from matplotlib import style; style.use('default')"
    )
    away = {"HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=shell_environment(**away), capture_output=True, cwd=tmp_path
    )
    assert (run.returncode, run.stderr) == (0, b"")
