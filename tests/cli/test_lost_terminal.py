"""Output to a terminal that goes away: a pseudo-terminal whose other end is closed."""

import errno
import os
import sys

import pytest

from flames_cli.cli.lost_terminal import outlive_terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")


@pytest.fixture
def terminal():
    """A terminal: the end at which its user reads, and the stream of a command's standard error."""
    user, ours = os.openpty()
    with os.fdopen(ours, "w", encoding="utf-8") as stream, os.fdopen(user, "rb", buffering=0) as end:
        yield end, stream


def test_a_command_continues_without_its_terminal(terminal, monkeypatch):
    end, stream = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    outlive_terminal()
    assert sys.stderr.isatty()
    assert sys.stderr.encoding == "utf-8"
    sys.stderr.write("round 1 ±\n")
    assert end.read(100).decode() == "round 1 ±\r\n"
    end.close()
    for _ in range(3):
        sys.stderr.write("round 2\n")
        sys.stderr.flush()
    os.write(sys.stderr.fileno(), b"a library's own line\n")


def test_without_this_the_terminal_ends_the_command(terminal):
    end, stream = terminal
    end.close()
    with pytest.raises(OSError, match="Input/output error") as caught:
        os.write(stream.fileno(), b"round 2\n")
    assert caught.value.errno == errno.EIO


def test_files_and_pipes_stay_as_they_are(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        outlive_terminal()
        assert sys.stdout is log
