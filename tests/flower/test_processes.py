"""Processes that are started, and stopped with all processes that they started."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower import processes
from flames_cli.flower.processes import (
    child_environment,
    free_port,
    last_lines,
    listen,
    node_environment,
    start,
    stop,
)
from flames_cli.plugins import ALLOWED_VARIABLE, FILES_VARIABLE

PARENT_OF_A_SESSION = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def python(code: str, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    return start([sys.executable, "-c", code], log, {**child_environment(log.parent), **environment})


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_flowers_programs_get_their_own_home_and_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("FLWR_HOME", "/elsewhere")
    monkeypatch.setenv("FLWR_INTERNAL_GRPC_CONTROL_API", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("no_proxy", "example.org")

    environment = child_environment(tmp_path)

    assert environment["FLWR_HOME"] == str(tmp_path)
    assert "FLWR_INTERNAL_GRPC_CONTROL_API" not in environment
    assert environment["FLWR_LOG_LEVEL"] == "DEBUG"
    assert environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] == "0.5"
    monkeypatch.setenv("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "3")
    assert child_environment(tmp_path)["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] == "3"
    assert "FORCE_COLOR" not in environment
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"
    assert environment["PATH"].split(":")[1] == str(Path(sys.executable).parent)


def test_a_real_node_gets_the_list_of_its_packages_and_no_file_with_plugins(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES_VARIABLE, "/home/someone/mine.py")
    monkeypatch.setenv(ALLOWED_VARIABLE, '{"another": "1.0"}')
    environment = node_environment(tmp_path, {"parts": "1.0"})
    assert FILES_VARIABLE not in environment
    assert environment[ALLOWED_VARIABLE] == '{"parts": "1.0"}'
    assert node_environment(tmp_path, {})[ALLOWED_VARIABLE] == "{}"
    assert environment["FLWR_HOME"] == str(tmp_path)


def test_a_proxy_by_which_flower_would_end_is_not_inherited(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy:1080")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setattr(processes, "uses_socks", lambda: False)
    assert "ALL_PROXY" not in child_environment(tmp_path)
    assert child_environment(tmp_path)["https_proxy"] == "http://proxy:3128"
    monkeypatch.setattr(processes, "uses_socks", lambda: True)
    assert child_environment(tmp_path)["ALL_PROXY"] == "socks5h://proxy:1080"


def test_a_free_port_can_be_listened_at():
    port = free_port()

    with listen("127.0.0.1", port), pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", port)


def test_all_of_a_process_ends_with_it_in_whatever_session(tmp_path):
    log = tmp_path / "log"
    process = python(PARENT_OF_A_SESSION, log)
    wait_for(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    assert is_alive(child)

    stop(process, seconds=5)

    assert process.returncode is not None
    assert not is_alive(child)


def test_a_process_that_does_not_want_to_end_is_killed(tmp_path):
    process = python(STUBBORN, tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").read_text())

    stop(process, seconds=0.3)

    assert process.returncode == -9


def test_a_process_that_has_ended_can_be_stopped(tmp_path):
    process = python("", tmp_path / "log")
    process.wait()

    stop(process)

    assert process.returncode == 0


def test_what_a_process_writes_is_its_users_alone(tmp_path):
    process = python(f"open({str(tmp_path / 'made')!r}, 'w')", tmp_path / "log")

    assert process.wait(20) == 0
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


def test_a_missing_program_is_an_error(tmp_path):
    with pytest.raises(FlamesError, match="no-such-program cannot be started"):
        start(["no-such-program"], tmp_path / "log", child_environment(tmp_path))


def test_a_log_that_is_not_there_has_no_last_lines(tmp_path):
    assert last_lines(tmp_path / "log") == ""
    assert processes.LOG_LINES == 3


def test_a_log_which_may_name_patients_is_its_owner_s_alone(tmp_path):
    process = python("print('patient')", tmp_path / "log")
    process.wait()
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
