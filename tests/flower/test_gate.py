"""Requests that the gate of the server's port admits, by sender and path."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from flames_cli import __version__
from flames_cli.flower.gate import Gate

ELSEWHERE = ("192.0.2.7", 40000)
PROTOCOL = 7


async def flower(scope, receive, send) -> None:
    """Answer every request, as a stub of Flower's application."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"x")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
    else:
        await send({"type": f"{scope['type']}.passed"})


def ask(path: str, client: Any = ELSEWHERE, **changes: Any) -> list[dict[str, Any]]:
    """Return the response to a request."""
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "root_path": ""}
    sent: list[dict[str, Any]] = []

    async def send(event) -> None:
        sent.append(event)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(Gate(flower, PROTOCOL)({**scope, "client": client, "headers": [], **changes}, receive, send))
    return sent


def status(path: str, client: Any = ELSEWHERE, **changes: Any) -> int:
    return int(ask(path, client, **changes)[0]["status"])


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages", "/v1/fleet/activate-node", "/health"])
def test_nodes_reach_their_own_part_and_the_health(path):
    assert status(path) == 200


CLOSED = """
/v1/control/start-run /v1/control/register-node /v1/runtime/push-object /docs /openapi.json / * /v1 /v1/fleet
/v1/fleet/ /v1/responses /metrics
"""

TRICKS = """
//v1/control/start-run /v1/fleet/../control/start-run /v1/fleet//../control/start-run /v1/fleet/./get-run
/V1/FLEET/get-run /v1/fleet/get-run/ /health/ /health/../v1/control/start-run /v1/fleet/get_run
http://server/v1/fleet/get-run /v1/fleet/get-run;x /v1/fleet/get-run?x /v1/fleet/%2e%2e/control
"""


@pytest.mark.parametrize("path", ["/v1/fleet/pull-messages\n", "/health\x00", *TRICKS.split()])
def test_paths_that_only_look_like_an_allowed_one_are_rejected(path):
    assert status(path) == 403


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/fleet/pull-messages", b"/v1/fleet%2fpull-messages"),
        ("/health", b"/%68ealth"),
        ("/health", b"/v1/control/start-run"),
        ("/v1/fleet/../control/start-run", b"/v1/fleet/%2e%2e/control/start-run"),
    ],
)
def test_paths_that_were_encoded_are_rejected(path, raw):
    assert status(path, raw_path=raw) == 403


def test_a_root_path_that_flower_would_cut_off_is_rejected():
    assert status("/health", root_path="/health") == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_this_machine_reaches_everything(host):
    assert status("/v1/control/start-run", (host, 1)) == 200


@pytest.mark.parametrize(
    "client", [("127.0.0.2", 1), ("::ffff:127.0.0.1", 1), ("127.0.0.1.example.org", 1), ("", 1), None, ()]
)
def test_only_two_addresses_are_this_machine(client):
    assert status("/v1/control/start-run", client) == 403


def test_no_header_changes_the_address_of_a_client():
    forwarded = [(b"x-forwarded-for", b"127.0.0.1"), (b"forwarded", b"for=127.0.0.1"), (b"x-real-ip", b"::1")]

    assert status("/v1/control/start-run", headers=forwarded) == 403


def test_a_rejection_has_a_reason_and_a_length():
    start, body = ask("/v1/control/start-run")

    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert b"own machine" in body["body"]


@pytest.mark.parametrize("client", [ELSEWHERE, ("127.0.0.1", 1)])
def test_the_health_has_the_release_and_the_protocol(client):
    headers = dict(ask("/health", client)[0]["headers"])

    assert headers[b"x-flames-version"] == __version__.encode()
    assert headers[b"x-flames-protocol"] == str(PROTOCOL).encode()
    assert headers[b"content-type"] == b"x"


def test_other_answers_have_neither():
    assert len(ask("/v1/fleet/pull-messages")[0]["headers"]) == 1


def test_web_sockets_from_elsewhere_are_closed():
    assert ask("/v1/fleet/pull-messages", type="websocket")[0]["type"] == "websocket.close"


def test_the_servers_own_start_passes():
    assert ask("", type="lifespan") == [{"type": "lifespan.passed"}]


KEY = b"-----BEGIN PUBLIC KEY-----"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b64encode(KEY), {b"online"}),
        (b64encode(b"another"), {b"unknown"}),
        (b"no base64!", set()),
        (b64encode(b"x" * 5000), set()),
        (None, set()),
    ],
)
def test_who_has_a_nodes_key_learns_whether_that_node_is_online(sent, expected):
    gate = Gate(flower, PROTOCOL, lambda key: "online" if key == KEY else "unknown")
    headers = [] if sent is None else [(b"x-flames-node-key", sent)]
    (start, _) = asyncio.run(collect(gate, {**HEALTH_REQUEST, "headers": headers}))
    assert {value for name, value in start["headers"] if name == b"x-flames-node-state"} == expected


HEALTH_REQUEST = {
    "type": "http",
    "method": "GET",
    "path": "/health",
    "raw_path": b"/health",
    "root_path": "",
    "client": ELSEWHERE,
}


async def collect(gate, scope):
    sent = []

    async def send(event):
        sent.append(event)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    await gate(scope, receive, send)
    return sent
