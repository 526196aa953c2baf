"""Flower's SuperNode with the app guard: `python -m flames_cli.flower supernode ARGUMENTS`.

The arguments are those of `flower-supernode` that `flames deploy node` passes; others may have no effect. The
main loop is FLAMES' own, from the same functions as Flower's `start_client_internal`. A message whose run has
an app that the guard rejects is ignored, with one line in the log; the node continues.
"""

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import uvicorn
from flwr.app import Message
from flwr.supercore.exit import add_exit_handler, register_signal_handlers
from flwr.supercore.object_store import ObjectStore, ObjectStoreFactory
from flwr.supercore.telemetry import EventType
from flwr.supernode.cli.flower_supernode import (
    SuperNodeLifespanConfig,
    _parse_supernode_lifespan_config,
    _start_supernode_http_api,
)
from flwr.supernode.start_client_internal import _init_connection, _pull_and_store_message, _push_messages

from flames_cli.flower.app_guard import Guard
from flames_cli.flower.lifetime import PROGRAM, end_with_parent, end_with_superexec
from flames_cli.flower.node_state import GuardedState, GuardedStateFactory

LOG = logging.getLogger("flwr")

PAUSE_SECONDS = 3.0
"""Time between two requests for a message when there is none."""

END_SECONDS = 3.0
"""Time that requests of the node's own processes have to finish when the node ends."""


class Connection(NamedTuple):
    """Functions by which a node talks to its server, in the order in which Flower returns them."""

    node_id: int
    receive: Callable[[], tuple[Message, Any] | None]
    send: Callable[..., Any]
    get_run: Callable[[int], Any]
    get_fab: Callable[[str, int], Any]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm_message_received: Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Node:
    """A connected node: it receives messages for its processes and sends their replies."""

    connection: Connection
    guard: Guard
    state: GuardedState
    store: ObjectStore
    config: dict[str, Any]

    def exchange(self) -> bool:
        """Receive the next message, wait for its reply and send all replies; False if there was nothing.

        Flower sends replies only after it has received a message. If a run ends while its message is being
        received, or if an object of the message cannot be fetched, Flower would send no reply at all to that
        message, and would send a reply that is ready only after the next message, which may never come.
        """
        received: list[Message] = []

        def receive() -> tuple[Message, Any] | None:
            got = self.connection.receive()
            received.extend([got[0]] if got else [])
            return got

        run_id = _pull_and_store_message(
            state=self.state,
            object_store=self.store,
            node_config=self.config,
            receive=receive,
            get_run=self.guard.get_run,
            get_fab=self.guard.get_fab,
            pull_object=self.connection.pull_object,
            confirm_message_received=self.connection.confirm_message_received,
            trusted_entities=None,
        )
        if run_id is None:
            for message in received:
                self.state.discard(message)
            if not self.state.has_reply():
                return False
        _push_messages(
            state=self.state,
            object_store=self.store,
            send=self.connection.send,
            push_object=self.connection.push_object,
        )
        return True


def main() -> None:
    """Run the node until a signal ends it."""
    end_with_parent()
    end_with_superexec()
    config = _parse_supernode_lifespan_config()
    states = GuardedStateFactory(ObjectStoreFactory())
    add_exit_handler(partial(_end_http_api, *_start_supernode_http_api(config, states)))
    register_signal_handlers(EventType.RUN_SUPERNODE_LEAVE, "SuperNode terminated gracefully.")
    _start_superexec(config)
    with _init_connection(
        server_address=config.server_address,
        insecure=config.insecure,
        root_certificates=config.root_certificates,
        authentication_keys=config.authentication_keys,
        max_retries=config.max_retries,
        max_wait_time=config.max_wait_time,
    ) as functions:
        node = connected_node(Connection(*functions), states, config.node_config)
        while True:
            if not node.exchange():
                time.sleep(PAUSE_SECONDS)


def connected_node(connection: Connection, states: GuardedStateFactory, config: dict[str, Any]) -> Node:
    """Return the node that `connection` has registered with its server, with its app guard."""
    state = states.state()
    state.set_node_id(connection.node_id)
    LOG.info("SuperNode ID: %s", connection.node_id)
    guard = Guard(connection.get_run, connection.get_fab)
    return Node(connection, guard, state, states.objectstore_factory.store(), config)


def _start_superexec(config: SuperNodeLifespanConfig) -> None:
    """Start the process that starts the processes of apps; it never installs what an app depends on."""
    command = [PROGRAM, "--insecure", "--runtime-api-address", f"{config.host}:{config.port}"]
    subprocess.Popen([*command, "--parent-pid", str(os.getpid())])


def _end_http_api(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(timeout=END_SECONDS)
    server.force_exit = thread.is_alive()
