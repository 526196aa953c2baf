"""A deployment on loopback."""

import ssl
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flames_cli import __version__
from flames_cli.fed.messages import PROTOCOL
from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment

OURS = {"x-flames-version": __version__, "x-flames-protocol": str(PROTOCOL)}


@pytest.fixture
def deployment(tmp_path: Path) -> Any:
    """Deployment with the sites a and b, and with a free port of localhost for its server."""
    return init_deployment(tmp_path / "deployment", "localhost", free_port(), ["a", "b"], 825)


@pytest.fixture
def serve(deployment):
    """serve(headers, ahead, tls): a server at the deployment's port, with its clock `ahead` seconds ahead."""
    running = []

    def start(headers=OURS, ahead=0.0, tls=True):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/health" else 404)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + ahead, usegmt=True)

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", deployment.port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(deployment.server_certificate, deployment.server_key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()
