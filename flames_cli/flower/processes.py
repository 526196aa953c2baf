"""Processes that this one starts: each in a process group of its own, so that all of it can be stopped."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from flames_cli.core.addresses import split_address
from flames_cli.errors import FlamesError
from flames_cli.flower.families import descendants, living, wait_for_end
from flames_cli.flower.parent import PARENT

POLL_SECONDS = 0.1
LOOPBACK = "127.0.0.1,localhost,::1"

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOG_LINES = 3
"""Of a log's end that an error message holds."""

BACKLOG = 2048
"""Connections that may wait to be accepted."""

STOP_SECONDS = 20.0
"""A process has to end by itself before it is killed."""


def child_environment(home: Path) -> dict[str, str]:
    """This process's environment for one of Flower's own: its home, no telemetry, no look for updates."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    kept.pop("FORCE_COLOR", None)
    # Flower starts its children by name (`flower-superexec`): they must be those beside this Python.
    programs = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]
    # Nor may a proxy see what this machine says to itself.
    direct = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), LOOPBACK]))
    return {
        **kept,
        "no_proxy": direct,
        "NO_PROXY": direct,
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join(programs),
    }


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port of `host` that nothing listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an IP address of this machine.

    Raises:
        OSError: the address is another machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own; what it prints is appended to the file `log`.

    What it writes itself nobody but its user can read.

    Raises:
        FlamesError: the log cannot be written or the program cannot be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        # Flower's words may name files and patients: they are for this user alone.
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
    """The last lines of a log that are not empty, as one line, without their colours."""
    try:
        lines = COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines()
    except OSError:
        return ""
    return " | ".join([line.strip() for line in lines if line.strip()][-n_lines:])


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    address: str,
    root_certificates: Path | None,
    log: Path,
    seconds: float = 60.0,
) -> None:
    """Wait until the SuperLink that `process` is answers at `address` (HOST:PORT).

    Raises:
        FlamesError: it ended, or gave no answer within `seconds`; the message has the end of its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FlamesError(f"the SuperLink did not start: {last_lines(log)}; its log is {log}")
        if is_healthy(address, root_certificates):
            return
        time.sleep(POLL_SECONDS)
    raise FlamesError(f"the SuperLink gave no answer at {address} in {seconds:.0f} s; its log is {log}")


def is_healthy(address: str, root_certificates: Path | None, seconds: float = 3.0) -> bool:
    """Whether a SuperLink answers at `address`, over TLS where `root_certificates` are given."""
    try:
        connection = connect(address, root_certificates, seconds)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def connect(address: str, root_certificates: Path | None, seconds: float) -> http.client.HTTPConnection:
    """A connection to `address` that trusts nobody but `root_certificates`; plain HTTP where there are none.

    Raises:
        FlamesError: the address is not HOST:PORT.
        OSError: the certificates cannot be read.
    """
    host, port = split_address(address)
    if root_certificates is None:
        return http.client.HTTPConnection(host, port, timeout=seconds)
    trust = ssl.create_default_context(cafile=str(root_certificates))
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=trust)


def stop(process: subprocess.Popen[Any], seconds: float = STOP_SECONDS) -> None:
    """End `process` and all that it started: asked first, killed after `seconds`.

    Flower starts some of its children in sessions of their own, which a signal to the group does not reach;
    a child that outlives its parent is nobody's child: so they are written down before.
    """
    family = set(descendants(process.pid))
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        family.update(descendants(process.pid))
        time.sleep(POLL_SECONDS)
    wait_for_end(family)
    for child in living(family):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    wait_for_end(family)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
