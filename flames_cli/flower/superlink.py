"""Flower's SuperLink behind the gate: `python -m flames_cli.flower.superlink ARGUMENTS`.

The arguments are those of `flower-superlink` and `--flames-protocol NUMBER`. Whatever address it serves, it
serves 127.0.0.1 too: from there runs are submitted, and Flower's own processes reach it.
"""

import argparse
import logging
import sys
from contextlib import ExitStack
from typing import cast

import uvicorn
from flwr.common.logger import FLOWER_LOGGER
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.supercore.logger import console_handler

# What `flower-superlink` itself is made of, by the same names as in its main function (flwr 1.41): it has no
# public way to put anything around its app.
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app

from flames_cli.flower.gate import App, Gate
from flames_cli.flower.parent import end_with_parent
from flames_cli.flower.processes import listen
from flames_cli.flower.superexec import end_with_superexec

LOOPBACK = "127.0.0.1"
COVERS_LOOPBACK = frozenset({LOOPBACK, "localhost", "0.0.0.0"})

GRACE_SECONDS = 5
"""Requests under way have when the server ends; a stream of logs would never end by itself."""

ROUTINE = (
    "ControlServicer.ListNodes",
    "ControlServicer.ListRuns",
    '"POST /v1/control/list-nodes HTTP/1.1" 200',
    '"POST /v1/control/list-runs HTTP/1.1" 200',
)
"""Lines of the log that this machine's own looks at the server would fill it with."""


def main() -> None:
    """Serve until a signal ends it."""
    end_with_parent()
    end_with_superexec()
    protocol = _take_protocol()
    config = _parse_superlink_lifespan_config()
    hosts = [config.host] if config.host in COVERS_LOOPBACK else [config.host, LOOPBACK]
    with ExitStack() as stack:
        sockets = [stack.enter_context(listen(host, config.port)) for host in hosts]
        config.host = LOOPBACK  # where Flower's own processes connect to: the gate knows them by it
        gate = Gate(cast(App, create_app(config, SuperLinkLifespan)), protocol)
        server = uvicorn.Server(_server_config(gate, config.ssl_certfile, config.ssl_keyfile))
        for logger in (FLOWER_LOGGER, logging.getLogger("uvicorn.access")):
            logger.addFilter(_tells_something)
        server.run(sockets=sockets)


def _take_protocol() -> int:
    """Return the protocol number of the command line, and leave Flower's own arguments there."""
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
        # A header that a client writes must never tell the gate where the client is.
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _tells_something(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(routine in message for routine in ROUTINE)


if __name__ == "__main__":
    main()
