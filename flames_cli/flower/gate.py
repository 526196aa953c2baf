"""Gate of the server: other machines can reach only the part of Flower's SuperLink that is for nodes.

Flower serves nodes (/v1/fleet), users who submit runs (/v1/control) and the processes of runs (/v1/runtime)
at one port, and it does not authenticate the users. The gate admits the last two from this machine only.
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
"""No other loopback address: it may belong to a tunnel or a proxy that other machines can reach."""

HEALTH = "/health"
FOR_NODES = re.compile(r"/v1/fleet/[a-z]+(-[a-z]+)*")

VERSION_HEADER = "x-flames-version"
PROTOCOL_HEADER = "x-flames-protocol"

REJECTION = b"nodes may use /v1/fleet and /health; the rest is for the server's own machine, at 127.0.0.1\n"


class Gate:
    """ASGI application around Flower's, outside all of its middleware.

    `protocol` is the number of the protocol that this server's messages follow; `/health` reports it.
    """

    def __init__(self, app: App, protocol: int) -> None:
        self._app = app
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
            await self._app(scope, receive, _with_headers(send, self._versions))
        else:
            await self._app(scope, receive, send)


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
