"""Connections to a SuperLink, and the wait until it answers."""

import subprocess
import sys
from pathlib import Path

import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower.health import connect, is_healthy, wait_until_healthy
from flames_cli.flower.processes import child_environment, free_port, start, stop


def python(code: str, log: Path) -> "subprocess.Popen[bytes]":
    return start([sys.executable, "-c", code], log, child_environment(log.parent))


def test_the_error_for_a_server_that_ends_has_the_end_of_its_log(tmp_path):
    code = "print('first\\n\\nsecond\\nthird'); raise SystemExit('port is taken')"
    process = python(code, tmp_path / "log")

    with pytest.raises(FlamesError, match=r"did not start: second \| third \| port is taken; its log is"):
        wait_until_healthy(process, f"127.0.0.1:{free_port()}", None, tmp_path / "log")


def test_a_server_that_does_not_answer_is_an_error(tmp_path):
    process = python("import time; time.sleep(60)", tmp_path / "log")
    try:
        with pytest.raises(FlamesError, match="did not answer at 127"):
            wait_until_healthy(process, f"127.0.0.1:{free_port()}", None, tmp_path / "log", seconds=0.3)
    finally:
        stop(process, seconds=0.5)


def test_a_server_that_answers_is_healthy(superlink, tmp_path):
    address = superlink({"/health": (200, b"")})
    process = python("import time; time.sleep(60)", tmp_path / "log")
    try:
        wait_until_healthy(process, address, None, tmp_path / "log", seconds=5)
    finally:
        stop(process, seconds=0.5)


def test_a_server_with_another_answer_is_not_healthy(superlink):
    assert not is_healthy(superlink({}), None)


@pytest.mark.parametrize("address", ["server", ":9092", "server:port", "server:"])
def test_an_invalid_address_is_an_error(address):
    with pytest.raises(FlamesError, match="is not HOST:PORT"):
        connect(address, None, 1.0)
