"""Gate of the server: other machines can reach only the part of Flower's SuperLink that is for nodes.

Flower serves nodes (/v1/fleet), users who submit runs (/v1/control) and the processes of runs (/v1/runtime)
at one port, and it does not authenticate the users. The gate admits the last two from this machine only.
"""

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from flames_cli import __version__

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

THIS_MACHINE = frozenset({"127.0.0.1", "::1"})
"""No other loopback address: it may belong to a tunnel or a proxy that other machines can reach."""

HEALTH = "/health"
FOR_NODES = re.compile(r"/v1/fleet/[a-z]+(-[a-z]+)*")

VERSION_HEADER = "x-flames-version"
PROTOCOL_HEADER = "x-flames-protocol"

KEY_HEADER = "x-flames-node-key"
"""Header of a request for `/health`: the node's public key in PEM, in base64."""
STATE_HEADER = "x-flames-node-state"
"""Header of its response: the state of the node with that key. Only who has a key can ask for it."""

NodeState = Callable[[bytes], str]
"""Function that returns the state of the node with a public key (PEM): Flower's own word, or UNKNOWN."""

UNKNOWN, ONLINE = "unknown", "online"

LONGEST_KEY = 1024
"""Largest number of characters of KEY_HEADER's value; a key of P-384 has 290."""

REJECTION = b"nodes may use /v1/fleet and /health; the rest is for the server's own machine, at 127.0.0.1\n"


class Gate:
    """ASGI application around Flower's, outside all of its middleware.

    `protocol` is the number of the protocol that this server's messages follow; `/health` reports it. It also
    reports the `node_state` of the node whose public key a request names: a site learns so that another node
    uses its key.
    """

    def __init__(self, app: App, protocol: int, node_state: NodeState | None = None) -> None:
        self._app = app
        self._node_state = node_state
        self._versions = (
            (VERSION_HEADER.encode(), __version__.encode()),
            (PROTOCOL_HEADER.encode(), str(protocol).encode()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request to Flower's application; answer another with status 403."""
        if scope["type"] == "lifespan":  # start and end of the server itself
            await self._app(scope, receive, send)
        elif not (_from_this_machine(scope) or _for_nodes(scope)):
            await _reject(scope, send)
        elif scope.get("path") == HEALTH:
            await self._app(scope, receive, _with_headers(send, (*self._versions, *self._state_of(scope))))
        else:
            await self._app(scope, receive, send)

    def _state_of(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header with the state of the node whose key the request names, if it names one."""
        sent = dict(scope.get("headers") or ()).get(KEY_HEADER.encode())
        if self._node_state is None or sent is None or len(sent) > LONGEST_KEY:
            return ()
        try:
            state = self._node_state(b64decode(sent, validate=True))
        except ValueError:
            return ()
        return ((STATE_HEADER.encode(), state.encode()),)


def _from_this_machine(scope: Scope) -> bool:
    client = scope.get("client") or ("",)
    return client[0] in THIS_MACHINE


def _for_nodes(scope: Scope) -> bool:
    """Return whether any machine may send this request.

    The path must be allowed exactly as it was sent. A path that is allowed only after decoding or simplifying
    is rejected, whatever Flower would make of it.
    """
    path = scope.get("path")
    if scope["type"] != "http" or not isinstance(path, str) or scope.get("root_path"):
        return False
    if scope.get("raw_path", path.encode()) != path.encode():
        return False
    return path == HEALTH or FOR_NODES.fullmatch(path) is not None


async def _reject(scope: Scope, send: Send) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008, "reason": "not from here"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REJECTION)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": REJECTION})


def _with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Return a `send` that adds `headers` to the response."""

    async def send_with_headers(event: Event) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event.get("headers", ()), *headers]
        await send(event)

    return send_with_headers
