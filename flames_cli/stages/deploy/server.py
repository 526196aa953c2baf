"""The server of a federation between machines: Flower's SuperLink, and who may take part in it."""

import ipaddress
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.flwr_command import FlowerCli
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import (
    child_environment,
    last_lines,
    listen,
    start,
    stop,
)
from flames_cli.stages.deploy.foreground import Tell, undisturbed, until_told_to_end
from flames_cli.store.deployment.folders import Deployment, read_deployment
from flames_cli.store.files.atomic import reason_of, write_json
from flames_cli.store.files.parse import parse_json

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"

LOOK_SECONDS = 5.0
"""Between two looks at the deployment's sites and at the nodes."""

RETRY_SECONDS = (1.0, 5.0, 20.0, 60.0)
"""Before Flower's server is started anew after it died: the first time, the second …; then it is given up."""

STEADY_SECONDS = 60.0
"""Of life, after which it counts from the first again."""


def serve(path: Path, bind: str | None, insecure: bool, tell: Tell, on_ready: Callable[[], None]) -> None:
    """Run the server of the deployment in `path` until a signal ends it.

    Args:
        path: the deployment's folder.
        bind: the IP address of this machine to serve; None: all, or 127.0.0.1 where `insecure`.
        insecure: without TLS, and for any node. Its nodes are not kept: one that joined so must not be known
            to a server that asks for keys.
        tell: told what happens.
        on_ready: called once, when sites can connect.

    Flower's server may die: it is started anew, and knows its sites and nodes again by its database.

    Raises:
        FlamesError: a file is missing, the port is taken, or Flower's server ends by itself again and again.
    """
    deployment = read_deployment(path)
    host = check_bind(bind or (LOOPBACK if insecure else EVERYWHERE))
    if not insecure:
        _check_files(deployment)
    _check_free(host, deployment.port)
    with until_told_to_end():
        try:
            _keep_up(_Server(deployment, host, insecure, tell), tell, on_ready)
        finally:
            with undisturbed():
                tell("the server has ended")


def check_bind(bind: str) -> str:
    """`bind`, an IP address.

    Raises:
        FlamesError: it is none.
    """
    try:
        return str(ipaddress.ip_address(bind.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise FlamesError(
            f"--bind is {bind!r}, expected an IP address of this machine, or {EVERYWHERE} for all of them"
        ) from None


def server_command(deployment: Deployment, host: str, insecure: bool) -> list[str]:
    """What starts Flower's server behind the gate."""
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
    """The node id of each site that has been registered; empty before the server's first start.

    Raises:
        FlamesError: the file cannot be read.
    """
    if not deployment.nodes.is_file():
        return {}
    try:
        content = parse_json(deployment.nodes.read_text(encoding="utf-8"))
        return {str(name): int(node_id) for name, node_id in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise FlamesError(
            f"{deployment.nodes} cannot be read ({error}); remove it and start the server anew"
        ) from error


class _Server:
    """Flower's server while it runs: takes up new sites, tells who comes and goes."""

    def __init__(self, deployment: Deployment, host: str, insecure: bool, tell: Tell) -> None:
        self._deployment = deployment
        self._host = host
        self.insecure = insecure
        self._certificates = None if insecure else deployment.ca_certificate
        self._tell = tell
        self._ids: dict[str, int] = {}
        self._before = {} if insecure else read_node_ids(deployment)
        self._online: frozenset[str] = frozenset()
        self._problem = ""
        self.ready = False
        """Whether sites could connect in its last life."""

    def run(self, on_ready: Callable[[], None]) -> NoReturn:
        """One life of it.

        Raises:
            FlamesError: it ended by itself.
        """
        self.ready = False
        made = self._deployment
        environment = child_environment(made.flower_home)
        process = start(server_command(made, self._host, self.insecure), made.log, environment)
        try:
            address = f"{LOOPBACK}:{made.port}"
            wait_until_healthy(process, address, self._certificates, made.log)
            cli = FlowerCli(made.flower_home, address, self._certificates)
            self._register_sites(cli)
            self._tell(f"ready at {made.superlink} (listens at {self._host}, port {made.port})")
            self.ready = True
            on_ready()
            while True:
                self._look(cli)
                self._wait(process, LOOK_SECONDS)
        finally:
            with undisturbed():
                stop(process)

    def _look(self, cli: FlowerCli) -> None:
        """What goes wrong here is told once, and must not end a federation."""
        try:
            self._register_sites(cli)
            self._tell_changes(cli)
            self._problem = ""
        except FlamesError as error:
            if str(error) != self._problem:
                self._tell(str(error))
            self._problem = str(error)

    def _register_sites(self, cli: FlowerCli) -> None:
        """Let every site of the deployment take part, and no other."""
        if self._certificates is None:
            return
        self._deployment = read_deployment(self._deployment.path)
        for name in [name for name in {**self._before, **self._ids} if name not in self._deployment.sites]:
            cli.unregister(self._ids.pop(name, 0) or self._before[name])
            self._before.pop(name, None)
            write_json(self._deployment.nodes, {**self._before, **self._ids})
            self._tell(f"{name} may no longer take part")
        for name in self._deployment.sites:
            if name not in self._ids:
                self._ids[name] = cli.register(self._deployment.node_key(name), name)
                write_json(self._deployment.nodes, {**self._before, **self._ids})
                self._tell(f"{name} may take part (node {self._ids[name]})")

    def _tell_changes(self, cli: FlowerCli) -> None:
        online = frozenset(_names_online(cli, self._ids))
        for name in sorted(online - self._online):
            self._tell(f"{name} is online")
        for name in sorted(self._online - online):
            self._tell(f"{name} is offline")
        self._online = online

    def _wait(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        log = self._deployment.log
        raise FlamesError(f"Flower's server ended by itself ({status}): {last_lines(log)}; its log is {log}")


def _keep_up(server: _Server, tell: Tell, on_ready: Callable[[], None]) -> NoReturn:
    """Run `server`, and start it anew where it dies.

    Raises:
        FlamesError: it never got ready, or died too often. Without keys where it has died once: it keeps no
            database, and would know none of the nodes that are connected.
    """
    was_ready, n_failed = False, 0
    while True:
        began = time.monotonic()
        try:
            server.run(ignore if was_ready else on_ready)
        except FlamesError as error:
            was_ready = was_ready or server.ready
            n_failed = 0 if server.ready and time.monotonic() - began > STEADY_SECONDS else n_failed
            if server.insecure or not was_ready or n_failed == len(RETRY_SECONDS):
                raise
            tell(f"{error}; it starts anew in {RETRY_SECONDS[n_failed]:g} s")
            time.sleep(RETRY_SECONDS[n_failed])
            n_failed += 1


def ignore() -> None:
    """Told once is enough."""


def _names_online(cli: FlowerCli, ids: Mapping[str, int]) -> list[str]:
    names = {node_id: name for name, node_id in ids.items()}
    nodes = [node for node in cli.nodes() if node.status == "online"]
    return [names.get(node.node_id) or node.name or f"node {node.node_id}" for node in nodes]


def _check_files(deployment: Deployment) -> None:
    files = [deployment.ca_certificate, deployment.server_certificate, deployment.server_key]
    files += [deployment.node_key(name) for name in deployment.sites]
    for file in files:
        if not file.is_file():
            raise MissingArtifact(
                f"no {file}; `flames deploy check --deployment {deployment.path}` tells what to do"
            )


def _check_free(host: str, port: int) -> None:
    """Raises FlamesError where Flower's server could not listen."""
    try:
        for address in dict.fromkeys([host] if host == EVERYWHERE else [host, LOOPBACK]):
            listen(address, port).close()
    except OSError as error:
        raise FlamesError(
            f"port {port} of {host} cannot be used: {reason_of(error)}; is a server running there already? "
            "`flames deploy status` tells"
        ) from error
