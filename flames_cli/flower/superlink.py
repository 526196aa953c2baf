"""Flower's SuperLink behind the gate: `python -m flames_cli.flower superlink ARGUMENTS`.

The arguments are those of `flower-superlink` and `--flames-protocol NUMBER`. In addition to the address that
it is given, it listens at 127.0.0.1: runs are submitted from there, and Flower's own processes connect to it.
"""

import argparse
import logging
import sys
from contextlib import ExitStack
from functools import partial
from typing import cast

import uvicorn
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import FLOWER_LOGGER, console_handler

# Parts of the main function of `flower-superlink`, which has no public way to put a gate around its app.
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app

from flames_cli.flower.gate import UNKNOWN, App, Gate
from flames_cli.flower.lifetime import end_with_parent, end_with_superexec
from flames_cli.flower.processes import listen

LOOPBACK = "127.0.0.1"
COVERS_LOOPBACK = frozenset({LOOPBACK, "localhost", "0.0.0.0"})

GRACE_SECONDS = 5
"""Time that open requests have when the server ends; a stream of logs would never end by itself."""

ROUTINE = (
    "ControlServicer.ListNodes",
    "ControlServicer.ListRuns",
    '"POST /v1/control/list-nodes HTTP/1.1" 200',
    '"POST /v1/control/list-runs HTTP/1.1" 200',
)
"""Parts of log lines that FLAMES' own regular queries cause, and that would fill the log."""


def main() -> None:
    """Serve until a signal ends the process."""
    end_with_parent()
    end_with_superexec()
    protocol = _take_protocol()
    config = _parse_superlink_lifespan_config()
    hosts = [config.host] if config.host in COVERS_LOOPBACK else [config.host, LOOPBACK]
    with ExitStack() as stack:
        sockets = [stack.enter_context(listen(host, config.port)) for host in hosts]
        config.host = LOOPBACK  # Flower's own processes connect to it, and the gate accepts them by it
        app = create_app(config, SuperLinkLifespan)
        gate = Gate(cast(App, app), protocol, partial(_node_state, app.state.linkstate_factory))
        server = uvicorn.Server(_server_config(gate, config.ssl_certfile, config.ssl_keyfile))
        for logger in (FLOWER_LOGGER, logging.getLogger("uvicorn.access")):
            logger.addFilter(_is_informative)
        server.run(sockets=sockets)


def _node_state(states: LinkStateFactory, public_key: bytes) -> str:
    """Return Flower's word for the state of the node with this key (PEM), or UNKNOWN."""
    state = states.state()
    node_id = state.get_node_id_by_public_key(public_key)
    found = [] if node_id is None else state.get_node_info(node_ids=[node_id])
    return str(found[0].status) if found else UNKNOWN


def _take_protocol() -> int:
    """Remove the protocol number from the command line, whose other arguments are Flower's, and return it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--flames-protocol", type=int, required=True)
    ours, flowers = parser.parse_known_args()
    sys.argv[1:] = flowers
    return int(ours.flames_protocol)


def _server_config(gate: Gate, certificate: str | None, key: str | None) -> uvicorn.Config:
    return uvicorn.Config(
        gate,
        log_config=get_uvicorn_log_config(console_handler.level),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        # The gate must never take the address of a client from a header that the client writes.
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _is_informative(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(routine in message for routine in ROUTINE)
