"""The server of a federation between machines: Flower's SuperLink, and the sites that it admits."""

import ipaddress
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import (
    child_environment,
    last_lines,
    listen,
    start,
    stop,
)
from flames_cli.stages.deploy.check_files import check_server_dates
from flames_cli.stages.deploy.findings import require_sound
from flames_cli.stages.deploy.foreground import Notify, uninterrupted, until_signal
from flames_cli.stages.deploy.server_watch import Certificates, SecondNodes
from flames_cli.store.deployment.folders import Deployment, read_deployment
from flames_cli.store.files.atomic import reason_of, write_json
from flames_cli.store.files.parse import parse_json, read_text

LOOPBACK = "127.0.0.1"
EVERYWHERE, EVERYWHERE_6 = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True)
class Timing:
    """Times, in seconds, of the command that runs Flower's server."""

    look_s: float = 5.0
    """Time between two reads of the deployment's sites and of the nodes."""
    retry_s: tuple[float, ...] = (1.0, 5.0, 20.0, 60.0)
    """Wait before Flower's server is restarted after it died: the first time, the second …; then it ends."""
    steady_s: float = 60.0
    """Time after which a running server counts as stable: its restarts are counted from the first again."""


DEFAULT_TIMING = Timing()


def serve(
    path: Path,
    bind: str | None,
    insecure: bool,
    notify: Notify,
    on_ready: Callable[[], None],
    timing: Timing = DEFAULT_TIMING,
) -> None:
    """Run the server of the deployment in `path` until a signal ends it.

    Args:
        path: the deployment's folder.
        bind: the IP address of this machine to listen at; None: all of the deployment's kind (IPv4, or IPv6
            if its host is an IPv6 address), or 127.0.0.1 if `insecure`.
        insecure: run without TLS, and admit any node. Such nodes are not stored in the database: a server
            that requires keys must not admit them later.
        notify: called with a line about each event.
        on_ready: called once, when sites can connect.
        timing: times between polls and restarts.

    If Flower's server dies, it is restarted, and reads its sites and nodes from its database.

    Raises:
        FlamesError: a file is missing, a certificate is not valid now, the port is in use, or Flower's server
            dies again and again.
    """
    deployment = read_deployment(path)
    host = check_bind(bind or (LOOPBACK if insecure else _all_addresses(deployment)))
    if not insecure:
        _check_files(deployment)
        require_sound(check_server_dates(deployment), notify)
    _check_free(host, deployment.port)
    with until_signal():
        try:
            _keep_running(_Server(deployment, host, insecure, notify, timing), notify, on_ready, timing)
        finally:
            with uninterrupted():
                notify("the server has ended")


def _all_addresses(deployment: Deployment) -> str:
    return EVERYWHERE_6 if ":" in deployment.host else EVERYWHERE


def check_bind(bind: str) -> str:
    """Return `bind` without brackets.

    Raises:
        FlamesError: it is not an IP address.
    """
    try:
        return str(ipaddress.ip_address(bind.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise FlamesError(
            f"--bind is {bind!r}, expected an IP address of this machine, or {EVERYWHERE} for all of them "
            f"({EVERYWHERE_6} for all of IPv6)"
        ) from None


def server_command(deployment: Deployment, host: str, insecure: bool) -> list[str]:
    """Return the command for Flower's server behind the gate."""
    command = [sys.executable, "-m", "flames_cli.flower", "superlink", "--flames-protocol", str(PROTOCOL)]
    command += ["--host", host, "--port", str(deployment.port), "--disable-runtime-dependency-installation"]
    if insecure:
        return [*command, "--insecure"]
    return [
        *command,
        "--enable-supernode-auth",
        *("--database", str(deployment.database.resolve())),
        *("--ssl-ca-certfile", str(deployment.ca_certificate.resolve())),
        *("--ssl-certfile", str(deployment.server_certificate.resolve())),
        *("--ssl-keyfile", str(deployment.server_key.resolve())),
    ]


def read_node_ids(deployment: Deployment) -> dict[str, int]:
    """Return the node id of each registered site; empty before the server's first start.

    Raises:
        FlamesError: the file cannot be read.
    """
    if not deployment.nodes.is_file():
        return {}
    try:
        content = parse_json(read_text(deployment.nodes))
        return {str(name): int(node_id) for name, node_id in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise FlamesError(
            f"{deployment.nodes} cannot be read ({error}); remove it and restart the server"
        ) from error


class _Server:
    """Flower's server while it runs: it registers new sites, and reports nodes that connect or disconnect."""

    def __init__(
        self, deployment: Deployment, host: str, insecure: bool, notify: Notify, timing: Timing
    ) -> None:
        self._deployment = deployment
        self._host = host
        self.insecure = insecure
        self._certificates = None if insecure else deployment.ca_certificate
        self._notify = notify
        self._timing = timing
        self._ids: dict[str, int] = {}
        self._before = {} if insecure else read_node_ids(deployment)
        self._online: frozenset[str] = frozenset()
        self._problem = ""
        self._renewals = Certificates(deployment)
        self._second = SecondNodes(deployment.log)
        self.ready = False
        """True if sites could connect since its last start."""

    def run(self, on_ready: Callable[[], None]) -> NoReturn:
        """Start Flower's server once, and wait until it ends.

        Raises:
            FlamesError: it ended by itself.
        """
        self.ready = False
        made = self._deployment
        self._renewals = Certificates(made)
        environment = child_environment(made.flower_home)
        process = start(server_command(made, self._host, self.insecure), made.log, environment)
        try:
            address = f"{LOOPBACK}:{made.port}"
            wait_until_healthy(process, address, self._certificates, made.log)
            cli = FlwrCommand(made.flower_home, address, self._certificates)
            self._register_sites(cli)
            self._notify(f"ready at {made.superlink} (listens at {self._host}, port {made.port})")
            self.ready = True
            on_ready()
            while True:
                self._look(cli)
                self._wait(process, self._timing.look_s)
        finally:
            with uninterrupted():
                stop(process)

    def _look(self, cli: FlwrCommand) -> None:
        """Register new sites and report changes; an error is reported once and does not end the server."""
        try:
            if not self.insecure:
                self._report_notes()
            self._register_sites(cli)
            self._report_changes(cli)
            self._problem = ""
        except FlamesError as error:
            if str(error) != self._problem:
                self._notify(str(error))
            self._problem = str(error)

    def _register_sites(self, cli: FlwrCommand) -> None:
        """Admit every site of the deployment, and no other."""
        if self._certificates is None:
            return
        self._deployment = read_deployment(self._deployment.path)
        for name in [name for name in {**self._before, **self._ids} if name not in self._deployment.sites]:
            cli.unregister(self._ids.pop(name, 0) or self._before[name])
            self._before.pop(name, None)
            write_json(self._deployment.nodes, {**self._before, **self._ids})
            self._notify(f"{name} is no longer admitted")
        for name in self._deployment.sites:
            if name not in self._ids:
                self._ids[name] = cli.register(self._deployment.node_key(name), name)
                write_json(self._deployment.nodes, {**self._before, **self._ids})
                self._notify(f"{name} is admitted (node {self._ids[name]})")

    def _report_changes(self, cli: FlwrCommand) -> None:
        online = frozenset(_names_online(cli, self._ids))
        for name in sorted(online - self._online):
            self._notify(f"{name} is online")
        for name in sorted(self._online - online):
            self._notify(f"{name} is offline")
        self._online = online

    def _report_notes(self) -> None:
        """Report certificates that expire or were renewed, and second nodes of one site."""
        for line in self._renewals.read_notes():
            self._notify(line)
        names = {node_id: name for name, node_id in self._ids.items()}
        for node_id in self._second.read():
            self._notify(
                f"{names.get(node_id, f'node {node_id}')}: another node with the key of this site tried to "
                "connect while its node is online; run one node for each site (perhaps the site's folder was "
                "copied to another machine). A node that was killed and started again within a minute also "
                "causes this"
            )

    def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        log = self._deployment.log
        raise FlamesError(f"Flower's server ended by itself ({status}): {last_lines(log)}; its log is {log}")


def _keep_running(server: _Server, notify: Notify, on_ready: Callable[[], None], timing: Timing) -> NoReturn:
    """Run `server`, and restart it when it dies.

    Raises:
        FlamesError: it was never ready, or died too often. An insecure server is not restarted: it has no
            database, and would not know the nodes that are connected.
    """
    was_ready, n_failed = False, 0
    while True:
        began = time.monotonic()
        try:
            server.run(ignore if was_ready else on_ready)
        except FlamesError as error:
            was_ready = was_ready or server.ready
            n_failed = 0 if server.ready and time.monotonic() - began > timing.steady_s else n_failed
            if server.insecure or not was_ready or n_failed == len(timing.retry_s):
                raise
            notify(f"{error}; it restarts in {timing.retry_s[n_failed]:g} s")
            time.sleep(timing.retry_s[n_failed])
            n_failed += 1


def ignore() -> None:
    """Do nothing: `on_ready` is called only once."""


def _names_online(cli: FlwrCommand, ids: Mapping[str, int]) -> list[str]:
    names = {node_id: name for name, node_id in ids.items()}
    nodes = [node for node in cli.nodes() if node.status == "online"]
    return [names.get(node.node_id) or node.name or f"node {node.node_id}" for node in nodes]


def _check_files(deployment: Deployment) -> None:
    files = [deployment.ca_certificate, deployment.server_certificate, deployment.server_key]
    files += [deployment.node_key(name) for name in deployment.sites]
    for file in files:
        if not file.is_file():
            raise MissingArtifact(
                f"{file} does not exist; `flames deploy check --deployment {deployment.path}` shows the fix"
            )


def _check_free(host: str, port: int) -> None:
    """Raise FlamesError if Flower's server cannot listen at `port`."""
    try:
        for address in dict.fromkeys([host] if host == EVERYWHERE else [host, LOOPBACK]):
            listen(address, port).close()
    except OSError as error:
        raise FlamesError(
            f"port {port} of {host} cannot be used: {reason_of(error)}; is a server running there already? "
            "`flames deploy status` shows it"
        ) from error
