"""Flower's own server and nodes on this machine: with TLS, with keys, behind the gate and with the guard."""

import http.client
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import psutil
import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.node import NodeSettings
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import child_environment, free_port, living, start, stop
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.deploy.node import node_command, settings_for
from flames_cli.stages.deploy.node_log import LogReader
from flames_cli.stages.deploy.server import server_command
from flames_cli.store.deployment.folders import Deployment

pytestmark = [pytest.mark.federated, pytest.mark.slow]

SECONDS = 60.0

FOREIGN_APP = """
import pathlib, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

server = ServerApp()
client = ClientApp()

@server.main()
def main(grid, context):
    nodes = [node.node_id for node in grid.get_nodes() if node.name == "known"]
    grid.push_messages([Message(RecordDict({}), node, "train", group_id="1") for node in nodes])
    time.sleep(60)

@client.train()
def train(message, context):
    pathlib.Path(MARK).write_text(str(context.node_config))
    return Message(RecordDict({}), reply_to=message)
"""

FOREIGN_DESCRIPTION = """
[project]
name = "flames-federation"
version = "0.1.0"
[tool.flwr.app]
publisher = "flames"
[tool.flwr.app.components]
serverapp = "foreign:server"
clientapp = "foreign:client"
"""


@dataclass
class Loopback:
    """A server that has registered one of the two sites, and the nodes that try to join it."""

    deployment: Deployment
    cli: FlwrCommand
    known: int
    """The node id of site `known`."""
    node: int
    """The process of the node of site `known`."""
    logs: dict[str, LogReader]
    said: dict[str, list[str]]
    """Summaries of each node's log so far."""

    def hears(self, node: str, words: str) -> bool:
        self.said[node] += self.logs[node].read()
        return any(words in line for line in self.said[node])

    def online(self) -> set[int]:
        return {node.node_id for node in self.cli.nodes() if node.status == "online"}


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory) -> Iterator[Loopback]:
    root = tmp_path_factory.mktemp("loopback")
    deployment = init_deployment(root / "ours", "127.0.0.1", free_port(), ["known", "unknown"], 30)
    other = init_deployment(root / "other", "127.0.0.1", 1, ["known"], 30)
    started: list[subprocess.Popen[bytes]] = []
    try:
        command = server_command(deployment, "127.0.0.1", insecure=False)
        server = start(command, deployment.log, child_environment(deployment.flower_home))
        started.append(server)
        wait_until_healthy(server, deployment.superlink, deployment.ca_certificate, deployment.log)
        cli = FlwrCommand(deployment.flower_home, deployment.superlink, deployment.ca_certificate)
        known = cli.register(deployment.node_key("known"), "known")
        logs = {}
        plain = replace(deployment.site("unknown"), path=root / "plain")
        stranger = replace(other.site("known"), superlink=deployment.superlink)
        for name, site, insecure in (
            ("known", deployment.site("known"), False),
            ("unknown", deployment.site("unknown"), False),
            ("plain", plain, True),
            ("stranger", stranger, False),
        ):
            settings = settings_for(site, NodeSettings(shards=(root / "secret shard é.h5",)))
            log = site.path / "node.log"
            command = node_command(site, settings, insecure, free_port())
            started.append(start(command, log, child_environment(site.flower_home)))
            logs[name] = LogReader(log, deployment.superlink)
        yield Loopback(deployment, cli, known, started[1].pid, logs, {name: [] for name in logs})
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(stop, started))


def ask(loopback: Loopback, method: str, path: str, source: str) -> http.client.HTTPResponse:
    trust = ssl.create_default_context(cafile=str(loopback.deployment.ca_certificate))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", loopback.deployment.port, timeout=10, context=trust, source_address=(source, 0)
    )
    try:
        connection.request(method, path, b"")
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


def test_another_address_gets_the_health_and_no_control(loopback):
    health = ask(loopback, "GET", "/health", "127.0.0.2")

    assert health.status == 200
    assert health.headers["x-flames-version"]
    for path in ("/v1/control/list-runs", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs"):
        assert ask(loopback, "POST", path, "127.0.0.2").status == 403
    assert ask(loopback, "POST", "/v1/control/list-runs", "127.0.0.1").status not in (200, 403)


def test_a_node_whose_key_is_registered_comes_online(loopback):
    wait_for(lambda: loopback.online() == {loopback.known}, "the known node online")
    wait_for(lambda: loopback.hears("known", "connected to"), "its log")

    assert [node.name for node in loopback.cli.nodes()] == ["known"]


def test_registering_a_key_again_finds_its_node(loopback):
    assert loopback.cli.register(loopback.deployment.node_key("known"), "known") == loopback.known


def test_a_node_with_an_unknown_key_is_rejected(loopback):
    wait_for(lambda: loopback.hears("unknown", "does not know this site's key"), "the rejection")

    assert len(loopback.cli.nodes()) == 1


def test_a_node_that_speaks_plain_http_is_rejected(loopback):
    wait_for(lambda: loopback.hears("plain", "does not answer"), "the rejection")

    assert len(loopback.cli.nodes()) == 1


def test_a_node_does_not_trust_a_server_that_another_authority_signed(loopback):
    wait_for(lambda: loopback.hears("stranger", "cannot be verified"), "the rejection")


def test_a_node_runs_no_app_but_ours(loopback, tmp_path):
    wait_for(lambda: loopback.online() == {loopback.known}, "the known node online")
    mark = tmp_path / "foreign-code-ran"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "foreign.py").write_text(f"MARK = {str(mark)!r}\n{FOREIGN_APP}")
    (tmp_path / "app" / "pyproject.toml").write_text(FOREIGN_DESCRIPTION)

    run = loopback.cli.submit(tmp_path / "app", {})
    try:
        wait_for(lambda: loopback.hears("known", f"rejects the app of run {run}"), "the rejection")
    finally:
        loopback.cli.stop(run)

    assert "foreign.py" in loopback.said["known"][-1]
    assert not mark.exists()
    assert loopback.online() == {loopback.known}
    assert loopback.cli.run_status(run)[0] == "finished:stopped"


def test_the_server_never_gets_the_paths_of_a_nodes_data(loopback):
    wait_for(lambda: loopback.online() == {loopback.known}, "the known node online")

    for file in loopback.deployment.server.rglob("*"):
        assert not file.is_file() or b"secret shard" not in file.read_bytes(), file


def test_a_removed_key_is_rejected_from_then_on_and_the_nodes_process_ends(loopback):
    wait_for(lambda: loopback.online() == {loopback.known}, "the known node online")
    (answering,) = psutil.Process(loopback.node).children(recursive=True)
    assert answering.cmdline()[-2] == "clientapp"
    loopback.cli.unregister(loopback.known)
    loopback.cli.unregister(loopback.known)

    wait_for(lambda: loopback.online() == set(), "the node gone")
    wait_for(lambda: not living([answering]), "the end of the process that answers messages")
    with pytest.raises(FlamesError, match="was removed before"):
        loopback.cli.register(loopback.deployment.node_key("known"), "known")


def test_only_the_owner_can_read_the_servers_files(loopback):
    assert loopback.deployment.database.stat().st_mode & 0o077 == 0
