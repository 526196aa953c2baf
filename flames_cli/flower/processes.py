"""Processes that this one starts, each in its own process group so that it can be stopped completely."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from flames_cli.errors import FlamesError
from flames_cli.plugins import ALLOWED_VARIABLE, FILES_VARIABLE
from flames_cli.plugins.packages import packages_text

PARENT = "FLAMES_PARENT"
"""Environment variable with the number of the process that called `start`."""

NOT_INHERITED = ("FORCE_COLOR", "FLWR_APP_TOKEN", "FLWR_DATABASE", "FLWR_INTERNAL_")
"""Beginnings of the names of environment variables that must not reach a process of Flower: they replace its
protocol, its database or its identity, which FLAMES sets."""

TASK_POLL, TASK_POLL_SECONDS = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "0.5"
"""Seconds between two requests of the server's SuperExec for a run to start; Flower's default is 1."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")

POLL_SECONDS = 0.1
LOOPBACK = "127.0.0.1,localhost,::1"

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOG_LINES = 3
"""Number of lines from the end of a log that an error message contains."""

BACKLOG = 2048
"""Number of connections that may wait to be accepted."""

STOP_SECONDS = 20.0
"""Time that a process has to end by itself before it is killed."""

ORPHAN_SECONDS = 3.0
"""Time that processes have to end after the one that started them."""


def child_environment(home: Path) -> dict[str, str]:
    """Return this process's environment for a process of Flower: its home, no telemetry, no update check.

    Flower's other settings (`FLWR_…`) are the user's own.
    """
    inherited = {name: value for name, value in os.environ.items() if _is_inherited(name, value)}
    # Flower starts its children by name (`flower-superexec`): they must be those of this Python environment.
    programs = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    programs.append(inherited.get("PATH", os.defpath))
    # Connections within this machine must not go through a proxy.
    direct = ",".join(filter(None, [inherited.get("no_proxy") or inherited.get("NO_PROXY"), LOOPBACK]))
    return {
        TASK_POLL: TASK_POLL_SECONDS,
        **inherited,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join(programs),
    }


def node_environment(home: Path, plugins: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a real node's processes.

    They load plug-ins of the packages `plugins` (name → version) alone, and no file with plug-ins.
    """
    inherited = {name: value for name, value in child_environment(home).items() if name != FILES_VARIABLE}
    return {**inherited, ALLOWED_VARIABLE: packages_text(plugins)}


def uses_socks() -> bool:
    """Return whether Flower's connections can go through a SOCKS proxy; else it ends where one is set, even
    for a connection within this machine."""
    return importlib.util.find_spec("socksio") is not None


def _is_inherited(name: str, value: str) -> bool:
    if name.startswith(NOT_INHERITED):
        return False
    return name.lower() not in PROXIES or not value.lower().startswith("socks") or uses_socks()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of `host` that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the IP address `host` of this machine.

    Raises:
        OSError: the address belongs to another machine, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command` in its own process group, and append its output to the file `log`.

    The log and all files that the process writes are readable only by this user.

    Raises:
        FlamesError: the log cannot be written or the program cannot be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        # Flower's messages may contain file names and patient names.
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, PARENT: str(os.getpid())},
                start_new_session=True,
                umask=0o077,
            )
    except OSError as error:
        raise FlamesError(f"{command[0]} cannot be started with its log in {log} ({error})") from error


def last_lines(log: Path, n_lines: int = LOG_LINES) -> str:
    """Return the last non-empty lines of a log as one line, without colour codes."""
    try:
        lines = COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()
    except OSError:
        return ""
    return " | ".join([line.strip() for line in lines if line.strip()][-n_lines:])


def stop(process: subprocess.Popen[Any], seconds: float = STOP_SECONDS) -> None:
    """End `process` and all processes that it started: send SIGTERM, and SIGKILL after `seconds`.

    Flower starts some of its children in their own sessions, which a signal to the group does not reach. A
    child whose parent has ended can no longer be found by its parent, so children are listed before.
    """
    family = set(descendants(process.pid))
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        family.update(descendants(process.pid))
        time.sleep(POLL_SECONDS)
    _wait_for_end(family)
    for child in living(family):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for_end(family)


def descendants(pid: int) -> list[psutil.Process]:
    """Return all processes that process `pid` and its children started; an empty list if `pid` has ended."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def living(family: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run; a zombie, whose parent has not read its status yet, does not."""
    return [process for process in family if process.is_running() and not _is_zombie(process)]


def _wait_for_end(family: Iterable[psutil.Process]) -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while living(family) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
