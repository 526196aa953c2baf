"""Stand-ins of Flower's programs: the real ones are in test_loopback.py."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, bytes]


@pytest.fixture
def identity() -> None:
    """Messages take their sender from this process's identity."""
    from flames_cli.flower.task_identity import send_messages_as

    send_messages_as(run_id=1, node_id=1)


@pytest.fixture
def superlink() -> Iterator[Callable[[dict[str, Answer]], str]]:
    """superlink({"/health": (200, b"")}): a server that answers so; its address, and 404 to all else."""
    running: list[ThreadingHTTPServer] = []

    def serve(answers: dict[str, Answer]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers))
        running.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


def _handler(answers: dict[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b""))
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    return Handler
