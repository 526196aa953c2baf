"""The server's gate: from elsewhere only the nodes' part of Flower's SuperLink can be reached.

At one port Flower serves nodes (/v1/fleet), whoever submits runs (/v1/control), and the processes of runs
(/v1/runtime); it asks nobody who submits. The last two are for this machine alone.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from flames_cli import __version__

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

THIS_MACHINE = frozenset({"127.0.0.1", "::1"})
"""Exactly these: behind another loopback address may be a tunnel or a proxy that others can reach."""

HEALTH = "/health"
FOR_NODES = re.compile(r"/v1/fleet/[a-z]+(-[a-z]+)*")

VERSION_HEADER = "x-flames-version"
PROTOCOL_HEADER = "x-flames-protocol"

REFUSAL = b"nodes may use /v1/fleet and /health; all else only the server's own machine, at 127.0.0.1\n"


class Gate:
    """An ASGI application around Flower's, outside all of its middleware.

    `protocol` is the number of the protocol that this server's messages follow; `/health` reports it.
    """

    def __init__(self, app: App, protocol: int) -> None:
        self._app = app
        self._versions = (
            (VERSION_HEADER.encode(), __version__.encode()),
            (PROTOCOL_HEADER.encode(), str(protocol).encode()),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass; refuse the rest with 403."""
        if scope["type"] == "lifespan":  # the server's own start and end
            await self._app(scope, receive, send)
        elif not (_from_this_machine(scope) or _for_nodes(scope)):
            await _refuse(scope, send)
        elif scope.get("path") == HEALTH:
            await self._app(scope, receive, _with_headers(send, self._versions))
        else:
            await self._app(scope, receive, send)


def _from_this_machine(scope: Scope) -> bool:
    client = scope.get("client") or ("",)
    return client[0] in THIS_MACHINE


def _for_nodes(scope: Scope) -> bool:
    """Whether anyone may send this.

    The path must be one of the allowed as it was sent: what would first have to be decoded or simplified to
    become one is refused, whatever Flower would make of it.
    """
    path = scope.get("path")
    if scope["type"] != "http" or not isinstance(path, str) or scope.get("root_path"):
        return False
    if scope.get("raw_path", path.encode()) != path.encode():
        return False
    return path == HEALTH or FOR_NODES.fullmatch(path) is not None


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1008, "reason": "not from here"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REFUSAL)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": REFUSAL})


def _with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Return `send` that adds `headers` to the response."""

    async def send_with_headers(event: Event) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event.get("headers", ()), *headers]
        await send(event)

    return send_with_headers
