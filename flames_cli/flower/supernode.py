"""Flower's SuperNode with the app guard: `python -m flames_cli.flower supernode ARGUMENTS`.

The arguments are those of `flower-supernode` that `flames deploy node` passes; others may have no effect. The
main loop is FLAMES' own, from the same functions as Flower's `start_client_internal`. A message whose run has
an app that the guard rejects is ignored, with one line in the log; the node continues.

One process answers all messages (`node_process`), where Flower starts a process for each.
"""

import logging
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
    _parse_supernode_lifespan_config,
    _start_supernode_http_api,
)
from flwr.supernode.start_client_internal import _init_connection, _pull_and_store_message, _push_messages

from flames_cli.flower.app_guard import Guard
from flames_cli.flower.lifetime import end_with_parent
from flames_cli.flower.node_process import NodeProcess
from flames_cli.flower.node_state import GuardedState, GuardedStateFactory
from flames_cli.flower.retries import retry_soon

LOG = logging.getLogger("flwr")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 3.0
"""Seconds between two requests for a message when there is none."""

PAUSE_SHARE = 0.1
"""The pause as a share of the time since the last message, so that the delay is small in proportion to the
round."""

DECLINED = "<class 'flames_cli.fed.node.Declined'>"
"""Beginning of the reason of an error reply by which a node declines a task. The class itself is in a package
that imports this one."""

LOOK_SECONDS = 0.5
"""Time between two checks whether the process that answers a message still runs."""

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
    process: NodeProcess

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
            if not self.state.replies():
                self.process.rest()
                return False
        else:
            self._await_reply()
        failed = any(map(is_failure, self.state.replies()))
        _push_messages(
            state=self.state,
            object_store=self.store,
            send=self.connection.send,
            push_object=self.connection.push_object,
        )
        self.process.finish(failed)
        return True

    def _await_reply(self) -> None:
        """Wait until the process has stored its reply completely; an error is the reply if it ends before."""
        self.process.wake()
        while not self.state.wait_for_reply(LOOK_SECONDS):
            if self.process.has_ended():
                self.state.fail_tasks("its process ended")


def is_failure(reply: Message) -> bool:
    """Return whether the process that made this reply has failed; to decline a task is no failure."""
    return reply.has_error() and not str(reply.error.reason).startswith(DECLINED)


def main() -> None:
    """Run the node until a signal ends it."""
    end_with_parent()
    retry_soon()
    config = _parse_supernode_lifespan_config()
    states = GuardedStateFactory(ObjectStoreFactory())
    add_exit_handler(partial(_end_http_api, *_start_supernode_http_api(config, states)))
    process = NodeProcess(f"{config.host}:{config.port}")
    add_exit_handler(process.end)
    register_signal_handlers(EventType.RUN_SUPERNODE_LEAVE, "SuperNode terminated gracefully.")
    with _init_connection(
        server_address=config.server_address,
        insecure=config.insecure,
        root_certificates=config.root_certificates,
        authentication_keys=config.authentication_keys,
        max_retries=config.max_retries,
        max_wait_time=config.max_wait_time,
    ) as functions:
        node = connected_node(Connection(*functions), states, config.node_config, process)
        process.start()
        last = time.monotonic()
        while True:
            began = time.monotonic()
            found = node.exchange()
            now = time.monotonic()
            if found:
                last = now
            else:
                time.sleep(pause_after(now - last, now - began))


def pause_after(seconds: float, request_seconds: float) -> float:
    """Return the pause before the next request, `seconds` after the last message.

    The last request took `request_seconds`, which is long if the server is busy.
    """
    return min(max(PAUSE_SHARE * seconds, SHORTEST_PAUSE, request_seconds), LONGEST_PAUSE)


def connected_node(
    connection: Connection, states: GuardedStateFactory, config: dict[str, Any], process: NodeProcess
) -> Node:
    """Return the node that `connection` has registered with its server, with its app guard."""
    state = states.state()
    state.set_node_id(connection.node_id)
    LOG.info("SuperNode ID: %s", connection.node_id)
    guard = Guard(connection.get_run, connection.get_fab)
    return Node(connection, guard, state, states.objectstore_factory.store(), config, process)


def _end_http_api(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(timeout=END_SECONDS)
    server.force_exit = thread.is_alive()
