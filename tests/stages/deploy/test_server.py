"""The server of a deployment: the sites that it admits, and the lines that it shows."""

import json
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import NodeRecord
from flames_cli.flower.processes import free_port, listen
from flames_cli.stages.deploy import server
from flames_cli.stages.deploy.init import add_site, init_deployment, remove_site, renew_certificate
from flames_cli.stages.deploy.server import Timing, check_bind, read_node_ids, serve, server_command
from flames_cli.store.deployment import certificates
from flames_cli.store.deployment.folders import read_deployment
from flames_cli.store.files.atomic import write_json
from tests.support.flower import StubCli

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


QUICK = Timing(look_s=0.05, retry_s=(0.01, 0.02))


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_server_requires_keys_uses_tls_and_has_a_database(deployment):
    command = server_command(deployment, "0.0.0.0", insecure=False)

    assert "--enable-supernode-auth" in command
    assert "--disable-runtime-dependency-installation" in command
    assert "--insecure" not in command
    assert option(command, "--database") == str(deployment.database)
    assert option(command, "--ssl-ca-certfile") == str(deployment.ca_certificate)
    assert option(command, "--ssl-certfile") == str(deployment.server_certificate)
    assert option(command, "--ssl-keyfile") == str(deployment.server_key)
    assert option(command, "--port") == str(deployment.port)


def test_an_insecure_server_has_no_database(deployment):
    command = server_command(deployment, "127.0.0.1", insecure=True)

    assert "--insecure" in command
    assert "--database" not in command
    assert "--enable-supernode-auth" not in command


@pytest.mark.parametrize("bind", ["0.0.0.0", "127.0.0.1", "192.0.2.7", "::", "2001:db8::1"])
def test_an_address_can_be_listened_at(bind):
    assert check_bind(bind) == bind


@pytest.mark.parametrize("bind", ["localhost", "server.example.org", "", "1.2.3", "0.0.0.0:9092"])
def test_what_is_no_address_is_an_error(bind):
    with pytest.raises(FlamesError, match="--bind"):
        check_bind(bind)


def test_brackets_of_an_ipv6_address_are_no_mistake():
    assert check_bind("[::1]") == "::1"


def record(node_id: int, status: str, name: str = "") -> NodeRecord:
    return NodeRecord(node_id, name, status, b"", None, None, None)


@pytest.fixture
def cli(monkeypatch) -> StubCli:
    """Replace Flower by a server that answers, and by a stub of its command line."""
    stub = StubCli()
    monkeypatch.setattr(server, "FlwrCommand", lambda home, address, certificates: stub)
    monkeypatch.setattr(
        server, "server_command", lambda made, *_: [sys.executable, "-c", SERVER, str(made.port)]
    )
    # The stand-in speaks plain HTTP, whatever certificates there are.
    real = server.wait_until_healthy
    monkeypatch.setattr(
        server, "wait_until_healthy", lambda process, address, _, log: real(process, address, None, log)
    )
    return stub


class Shown:
    """Lines that the server shows; each of `steps` is done when its words were shown."""

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


def test_every_site_is_admitted_before_the_server_is_ready(deployment, cli):
    shown = Shown(("READY", end))

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert shown.lines == [
        "a is admitted (node 101)",
        "b is admitted (node 102)",
        f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})",
        "READY",
        "the server has ended",
    ]
    assert read_node_ids(deployment) == {"a": 101, "b": 102}
    with listen("127.0.0.1", deployment.port):
        """The port is free again."""


def test_a_site_that_is_added_later_is_admitted_without_a_restart(deployment, cli):
    shown = Shown(("READY", lambda: add_site(deployment, "late")), ("late is admitted", end))

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert cli.registered == ["a", "b", "late"]
    assert read_node_ids(deployment)["late"] == 103


def test_a_site_that_is_removed_is_no_longer_admitted(deployment, cli):
    shown = Shown(
        ("READY", lambda: remove_site(read_deployment(deployment.path), "a")), ("a is no longer", end)
    )

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert cli.unregistered == [101]
    assert read_node_ids(deployment) == {"b": 102}


def test_a_site_that_was_removed_while_the_server_was_down_is_not_admitted(deployment, cli):
    write_json(deployment.nodes, {"a": 7, "b": 8})
    remove_site(deployment, "a")
    shown = Shown(("READY", end))

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert cli.unregistered == [7]
    assert shown.lines[:2] == ["a is no longer admitted", "b is admitted (node 101)"]
    assert read_node_ids(deployment) == {"b": 101}


def test_nodes_that_connect_or_disconnect_are_shown_by_name(deployment, cli):
    shown = Shown(
        ("READY", lambda: cli.records.append(record(101, "online"))),
        ("a is online", lambda: cli.records.append(record(7, "online", "stranger"))),
        ("stranger is online", lambda: cli.records.__setitem__(0, record(101, "offline"))),
        ("a is offline", end),
    )

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert shown.lines[-4:] == ["a is online", "stranger is online", "a is offline", "the server has ended"]


def test_a_problem_of_a_running_server_is_shown_once_and_does_not_end_it(deployment, cli):
    def break_it() -> None:
        cli.problem = "no answer"

    def fix_it() -> None:
        cli.problem = ""
        cli.records.append(record(101, "online"))

    seen: list[int] = []

    def later() -> None:
        signal.signal(signal.SIGALRM, lambda *_: fix_it())
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        seen.append(1)

    shown = Shown(("READY", break_it), ("no answer", later), ("a is online", end))

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert shown.lines.count("no answer") == 1


def test_an_insecure_server_registers_no_site(deployment, cli):
    shown = Shown(("READY", lambda: cli.records.append(record(7, "online"))), ("node 7 is online", end))

    serve(deployment.path, None, True, shown, shown.ready, QUICK)

    assert cli.registered == []
    assert not deployment.nodes.exists()
    assert "listens at 127.0.0.1," in shown.lines[0]


@pytest.fixture
def dies(cli, monkeypatch):
    """Replace Flower's server by one that answers once, then ends with an error."""
    code = SERVER.replace("serve_forever()", "handle_request(); raise SystemExit('the disk is full')")
    monkeypatch.setattr(
        server, "server_command", lambda made, *_: [sys.executable, "-c", code, str(made.port)]
    )


def test_a_server_that_dies_again_and_again_is_an_error(deployment, dies):
    shown = Shown()

    with pytest.raises(FlamesError, match=r"ended by itself \(1\): .*the disk is full; its log is"):
        serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert sum("it restarts in 0.0" in line for line in shown.lines) == 2
    assert [line for line in shown.lines if line.startswith(("ready", "READY", "the server"))] == [
        *[f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})", "READY"],
        *[f"ready at {deployment.superlink} (listens at 127.0.0.1, port {deployment.port})"] * 2,
        "the server has ended",
    ]


def test_a_server_without_a_database_is_not_restarted(deployment, dies):
    shown = Shown()

    with pytest.raises(FlamesError, match="ended by itself"):
        serve(deployment.path, None, True, shown, shown.ready, QUICK)

    assert not any("restarts" in line for line in shown.lines)


def test_restarts_of_a_stable_server_are_counted_from_the_first_again(deployment, dies):
    lives: list[str] = []

    def notify(line: str) -> None:
        lives.extend([line] if line.startswith("ready") else [])
        if len(lives) == 4:
            raise KeyboardInterrupt

    serve(deployment.path, "127.0.0.1", False, notify, lambda: None, replace(QUICK, steady_s=0.0))


def test_a_server_that_never_gets_ready_is_an_error_immediately(deployment, cli, monkeypatch):
    monkeypatch.setattr(server, "server_command", lambda *_: [sys.executable, "-c", "raise SystemExit('no')"])
    shown = Shown()

    with pytest.raises(FlamesError, match="did not start: no"):
        serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert shown.lines == ["the server has ended"]


def test_signal_handlers_are_restored_after_the_end(deployment, cli):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    shown = Shown(("READY", end))

    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_port_in_use_is_an_error_before_anything_starts(deployment):
    with listen("127.0.0.1", deployment.port), pytest.raises(FlamesError, match="flames deploy status"):
        serve(deployment.path, "127.0.0.1", False, print, print)
    assert not deployment.log.exists()


@pytest.mark.parametrize("missing", ["ca_certificate", "server_certificate", "server_key"])
def test_a_missing_file_is_an_error_before_anything_starts(deployment, missing):
    file = getattr(deployment, missing)
    file.unlink()

    with pytest.raises(FlamesError, match=f"{file} does not exist; `flames deploy check"):
        serve(deployment.path, "127.0.0.1", False, print, print)


def test_a_missing_key_of_a_site_is_an_error(deployment):
    deployment.node_key("b").unlink()

    with pytest.raises(FlamesError, match=r"b\.pub"):
        serve(deployment.path, "127.0.0.1", False, print, print)


@pytest.mark.parametrize("content", ["", "[]", '{"a": null}', '{"a": "x"}'])
def test_node_ids_that_cannot_be_read_are_an_error(deployment, content):
    deployment.nodes.write_text(content)

    with pytest.raises(FlamesError, match=r"nodes\.json cannot be read"):
        read_node_ids(deployment)


def test_node_ids_may_be_as_large_as_flowers(deployment):
    assert read_node_ids(deployment) == {}
    deployment.nodes.write_text(json.dumps({"a": 2**64 - 1}))

    assert read_node_ids(deployment) == {"a": 2**64 - 1}


@pytest.mark.parametrize(
    ("backdated", "days", "says"),
    [
        (30, -1, r"server\.crt expired on .*; run `flames deploy renew` and restart"),
        (-2, 9, "valid only from"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_an_error_before_anything_starts(
    backdated, days, says, deployment, cli, monkeypatch
):
    monkeypatch.setattr(certificates, "BACKDATED", timedelta(days=backdated))
    monkeypatch.setattr("flames_cli.stages.deploy.init._check_days", lambda days: None)
    renew_certificate(deployment.path, days)
    shown = Shown()
    with pytest.raises(FlamesError, match=says):
        serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)
    assert shown.lines == []
    assert not deployment.log.exists()


def test_a_server_shows_what_will_end_it_and_a_second_node_of_a_site(deployment, cli):
    renew_certificate(deployment.path, 12)

    def second_node() -> None:
        with deployment.log.open("a") as log:
            log.write("exception: SuperNode with node ID 102 could not be activated.\n")

    shown = Shown(
        ("READY", second_node),
        ("b: another node with the key", lambda: renew_certificate(deployment.path, 100)),
        ("was renewed", end),
    )
    serve(deployment.path, "127.0.0.1", False, shown, shown.ready, QUICK)
    assert "server.crt expires in 11 days" in shown.lines[0]
    assert sum("expires" in line for line in shown.lines) == 1


def test_a_server_with_an_ipv6_address_listens_at_all_of_ipv6_and_its_sites_connect_by_brackets(
    tmp_path, cli
):
    made = init_deployment(tmp_path / "six", "[::1]", free_port("::1"), ["a"], 825)
    assert made.host == "::1"
    assert made.superlink == f"[::1]:{made.port}" == made.site("a").superlink
    shown = Shown(("READY", end))
    serve(made.path, None, False, shown, shown.ready, QUICK)
    assert any(line.startswith(f"ready at [::1]:{made.port} (listens at ::,") for line in shown.lines)
