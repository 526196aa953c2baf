"""The server of a deployment: who may take part, and what is told."""

import json
import os
import signal
import sys
from typing import Any

import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import NodeRecord
from flames_cli.flower.processes import listen
from flames_cli.stages.deploy import server
from flames_cli.stages.deploy.init import add_site, remove_site
from flames_cli.stages.deploy.server import check_bind, read_node_ids, serve, server_command
from flames_cli.store.deployment.folders import read_deployment
from flames_cli.store.files.atomic import write_json

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_server_asks_for_keys_over_tls_and_keeps_what_it_knows(deployment):
    command = server_command(deployment, "0.0.0.0", insecure=False)

    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    assert "--insecure" not in command
    assert option(command, "--database") == str(deployment.database)
    assert option(command, "--ssl-ca-certfile") == str(deployment.ca_certificate)
    assert option(command, "--ssl-certfile") == str(deployment.server_certificate)
    assert option(command, "--ssl-keyfile") == str(deployment.server_key)
    assert option(command, "--port") == str(deployment.port)


def test_an_insecure_server_keeps_nobody_who_joined_it(deployment):
    command = server_command(deployment, "127.0.0.1", insecure=True)

    assert "--insecure" in command
    assert "--database" not in command
    assert "--enable-supernode-auth" not in command


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.1", "192.0.2.7", "::", "2001:db8::1"])
def test_an_address_can_be_listened_at(bind):
    assert check_bind(bind) == bind


@pytest.mark.parametrize("bind", ["localhost", "server.example.org", "", "1.2.3", "0.0.0.0:9092"])
def test_what_is_no_address_is_refused(bind):
    with pytest.raises(FlamesError, match="--bind"):
        check_bind(bind)


def test_brackets_of_an_ipv6_address_are_no_mistake():
    assert check_bind("[::1]") == "::1"


class StubCli:
    """Flower's command line; `records` are what it tells of nodes."""

    records: list[NodeRecord]
    registered: list[str]
    unregistered: list[int]
    problem: str

    def __init__(self, home: Any, address: str, certificates: Any) -> None:
        self.address, self.certificates = address, certificates

    def register(self, key: Any, name: str) -> int:
        if not key.is_file():
            raise FlamesError(f"no {key}")
        self.registered.append(name)
        return 100 + len(self.registered)

    def unregister(self, node_id: int) -> None:
        self.unregistered.append(node_id)

    def nodes(self) -> list[NodeRecord]:
        if self.problem:
            raise FlamesError(self.problem)
        return self.records


def record(node_id: int, status: str, name: str = "") -> NodeRecord:
    return NodeRecord(node_id, name, status, b"", None, None, None)


@pytest.fixture
def cli(monkeypatch) -> type[StubCli]:
    """What stands in for Flower: a server that answers, and a command line."""
    monkeypatch.setattr(StubCli, "records", [], raising=False)
    monkeypatch.setattr(StubCli, "registered", [], raising=False)
    monkeypatch.setattr(StubCli, "unregistered", [], raising=False)
    monkeypatch.setattr(StubCli, "problem", "", raising=False)
    monkeypatch.setattr(server, "FlowerCli", StubCli)
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(
        server, "server_command", lambda made, *_: [sys.executable, "-c", SERVER, str(made.port)]
    )
    # The stand-in speaks plain HTTP, whatever certificates there are.
    real = server.wait_until_healthy
    monkeypatch.setattr(
        server, "wait_until_healthy", lambda process, address, _, log: real(process, address, None, log)
    )
    return StubCli


class Told:
    """What the server says; `steps` are done one after the other, each once its words were said."""

    def __init__(self, *steps: tuple[str, Any]) -> None:
        self.lines: list[str] = []
        self._steps = list(steps)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        if self._steps and self._steps[0][0] in line:
            self._steps.pop(0)[1]()

    def ready(self) -> None:
        self("READY")


def end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_every_site_may_take_part_before_the_server_says_it_is_ready(deployment, cli):
    told = Told(("READY", end))

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert told.lines == [
        "a may take part (node 101)",
        "b may take part (node 102)",
        f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})",
        "READY",
        "the server has ended",
    ]
    assert read_node_ids(deployment) == {"a": 101, "b": 102}
    with listen("127.0.0.1", deployment.port):
        """The server is gone."""


def test_a_site_that_is_added_later_may_take_part_without_a_restart(deployment, cli):
    told = Told(("READY", lambda: add_site(deployment, "late")), ("late may take part", end))

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert cli.registered == ["a", "b", "late"]
    assert read_node_ids(deployment)["late"] == 103


def test_a_site_that_is_removed_may_no_longer_take_part(deployment, cli):
    told = Told(
        ("READY", lambda: remove_site(read_deployment(deployment.path), "a")), ("a may no longer", end)
    )

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert cli.unregistered == [101]
    assert read_node_ids(deployment) == {"b": 102}


def test_a_site_that_was_removed_while_the_server_was_down_may_not_take_part(deployment, cli):
    write_json(deployment.nodes, {"a": 7, "b": 8})
    remove_site(deployment, "a")
    told = Told(("READY", end))

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert cli.unregistered == [7]
    assert told.lines[:2] == ["a may no longer take part", "b may take part (node 101)"]
    assert read_node_ids(deployment) == {"b": 101}


def test_who_comes_and_goes_is_told_by_name(deployment, cli):
    told = Told(
        ("READY", lambda: cli.records.append(record(101, "online"))),
        ("a is online", lambda: cli.records.append(record(7, "online", "stranger"))),
        ("stranger is online", lambda: cli.records.__setitem__(0, record(101, "offline"))),
        ("a is offline", end),
    )

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert told.lines[-4:] == ["a is online", "stranger is online", "a is offline", "the server has ended"]


def test_a_problem_while_it_runs_is_told_once_and_does_not_end_it(deployment, cli):
    def break_it() -> None:
        cli.problem = "no answer"

    def mend_it() -> None:
        cli.problem = ""
        cli.records.append(record(101, "online"))

    seen: list[int] = []

    def later() -> None:
        signal.signal(signal.SIGALRM, lambda *_: mend_it())
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        seen.append(1)

    told = Told(("READY", break_it), ("no answer", later), ("a is online", end))

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert told.lines.count("no answer") == 1


def test_an_insecure_server_registers_nobody(deployment, cli):
    told = Told(("READY", lambda: cli.records.append(record(7, "online"))), ("node 7 is online", end))

    serve(deployment.path, None, True, told, told.ready)

    assert cli.registered == []
    assert not deployment.nodes.exists()
    assert "listens at 127.0.0.1," in told.lines[0]


@pytest.fixture
def dies(cli, monkeypatch):
    """A server that answers once, and dies."""
    code = SERVER.replace("serve_forever()", "handle_request(); raise SystemExit('the disk is full')")
    monkeypatch.setattr(
        server, "server_command", lambda made, *_: [sys.executable, "-c", code, str(made.port)]
    )
    monkeypatch.setattr(server, "RETRY_SECONDS", (0.01, 0.02))


def test_a_server_that_dies_again_and_again_is_an_error(deployment, dies):
    told = Told()

    with pytest.raises(FlamesError, match=r"ended by itself \(1\): .*the disk is full; its log is"):
        serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert sum("it starts anew in 0.0" in line for line in told.lines) == 2
    assert [line for line in told.lines if line.startswith(("ready", "READY", "the server"))] == [
        *[f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})", "READY"],
        *[f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})"] * 2,
        "the server has ended",
    ]


def test_a_server_without_a_database_does_not_start_anew(deployment, dies):
    told = Told()

    with pytest.raises(FlamesError, match="ended by itself"):
        serve(deployment.path, None, True, told, told.ready)

    assert not any("starts anew" in line for line in told.lines)


def test_a_server_that_dies_after_a_long_life_has_all_its_tries_again(deployment, dies, monkeypatch):
    monkeypatch.setattr(server, "STEADY_SECONDS", 0.0)
    lives: list[str] = []

    def tell(line: str) -> None:
        lives.extend([line] if line.startswith("ready") else [])
        if len(lives) == 4:
            raise KeyboardInterrupt

    serve(deployment.path, "127.0.0.1", False, tell, lambda: None)


def test_a_server_that_never_gets_ready_is_an_error_at_once(deployment, cli, monkeypatch):
    monkeypatch.setattr(server, "server_command", lambda *_: [sys.executable, "-c", "raise SystemExit('no')"])
    told = Told()

    with pytest.raises(FlamesError, match="did not start: no"):
        serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert told.lines == ["the server has ended"]


def test_signals_are_as_before_once_it_has_ended(deployment, cli):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    told = Told(("READY", end))

    serve(deployment.path, "127.0.0.1", False, told, told.ready)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_port_that_is_taken_is_told_before_anything_starts(deployment):
    with listen("127.0.0.1", deployment.port), pytest.raises(FlamesError, match="flames deploy status"):
        serve(deployment.path, "127.0.0.1", False, print, print)
    assert not deployment.log.exists()


@pytest.mark.parametrize("missing", ["ca_certificate", "server_certificate", "server_key"])
def test_a_file_that_is_missing_is_told_before_anything_starts(deployment, missing):
    getattr(deployment, missing).unlink()

    with pytest.raises(FlamesError, match=f"no {getattr(deployment, missing)}; `flames deploy check"):
        serve(deployment.path, "127.0.0.1", False, print, print)


def test_a_sites_key_that_is_missing_is_told(deployment):
    deployment.node_key("b").unlink()

    with pytest.raises(FlamesError, match=r"b\.pub"):
        serve(deployment.path, "127.0.0.1", False, print, print)


@pytest.mark.parametrize("content", ["", "[]", '{"a": null}', '{"a": "x"}'])
def test_node_ids_that_cannot_be_read_are_told(deployment, content):
    deployment.nodes.write_text(content)

    with pytest.raises(FlamesError, match=r"nodes\.json cannot be read"):
        read_node_ids(deployment)


def test_node_ids_may_be_as_large_as_flowers(deployment):
    assert read_node_ids(deployment) == {}
    deployment.nodes.write_text(json.dumps({"a": 2**64 - 1}))

    assert read_node_ids(deployment) == {"a": 2**64 - 1}
