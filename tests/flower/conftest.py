"""Stubs of Flower's programs; test_loopback.py has the real ones."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, bytes]


@pytest.fixture
def identity() -> None:
    """Set the identity of this process, from which messages take their sender."""
    from flames_cli.flower.task_identity import send_messages_as

    send_messages_as(run_id=1, node_id=1)


class SuperLinks:
    """Servers with fixed answers, and the last request that they got at each path."""

    def __init__(self) -> None:
        self.seen: dict[str, bytes] = {}
        self.running: list[ThreadingHTTPServer] = []

    def __call__(self, answers: dict[str, Answer]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers, self.seen))
        self.running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"


@pytest.fixture
def superlink() -> Iterator[SuperLinks]:
    """superlink({"/health": (200, b"")}): start a server with these answers, else 404; its address."""
    made = SuperLinks()
    yield made
    for server in made.running:
        server.shutdown()
        server.server_close()


def _handler(answers: dict[str, Answer], seen: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            seen[self.path] = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Do not print."""

    return Handler
