"""The process of a node that answers messages: `python -m flames_cli.flower clientapp HOST:PORT`.

Flower starts a process for each message, which takes seconds: Python, torch and the data are loaded each
time. This process answers one message after the other, with Flower's own functions. The node starts it, and
starts a new one when it has ended (`node_process`). It waits for an empty line on its standard input, which
means that the node at HOST:PORT has a message, and it ends when its input is closed, as when the node has
died.

The app is FLAMES' own ClientApp as installed here. The guard has checked that the server's app names it and
has no code, so that the app that was sent is not installed on this machine.
"""

import importlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from flames_cli.flower.app_guard import CLIENT_APP
from flames_cli.flower.retries import retry_soon
from flames_cli.plugins import allow_only, allowed_packages

LOG = logging.getLogger("flwr")

TRAINING = "flames_cli.fed.training"
"""Module that loads PyTorch. It is imported here by name, since `flames_cli.fed` imports this package."""

END_SECONDS = 20.0
"""Time that the process has to end after its node; then it exits immediately."""


def main() -> None:
    """Answer messages until the standard input is closed or a signal ends the process."""
    address = sys.argv[1]
    allow_listed_plugins()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    wakes = _listen()
    retry_soon()
    app = load_app(CLIENT_APP)
    ready = not wakes.empty()
    while True:
        if not ready and wakes.empty():
            importlib.import_module(TRAINING)
            ready = True
        wakes.get()
        serve(address, app)


def allow_listed_plugins() -> None:
    """Let this process use the plug-ins that the node's owner allows; without a list, none."""
    allow_only(allowed_packages() or {})


def load_app(reference: str) -> ClientApp:
    """Return the ClientApp that MODULE:NAME names."""
    module, _, name = reference.partition(":")
    app = getattr(importlib.import_module(module), name)
    assert isinstance(app, ClientApp)
    return app


def serve(address: str, app: ClientApp) -> None:
    """Answer the message that waits at the node's address, if there is one."""
    with _connected(address) as client:
        found = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
    if found.HasField("task") and found.token:
        with _connected(address, found.token) as client, _beating(client):
            _answer(client, app)


def _answer(client: RuntimeHttpClient, app: ClientApp) -> None:
    """Do what Flower's `run_clientapp` does for one message, without an installation and without an exit."""
    message: Message | None = None
    context: Context | None = None
    reply: Message | None = None
    status, details = SubStatus.COMPLETED, ""
    try:
        message, context, _, _ = pull_task_input(client)
        reply = app(message=message, context=context)
    except Exception as error:
        status, details = SubStatus.FAILED, f"{type(error)}:<'{error}'>"
        LOG.error("ClientApp raised an exception", exc_info=error)
        if message is not None:
            failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, details)
            reply = Message(failure, reply_to=message)
    if reply is not None and context is not None:
        try:
            push_message(client, reply, context)
        except Exception as error:
            status, details = SubStatus.FAILED, f"the reply was not stored: {error}"
            LOG.error("Failed to push reply message", exc_info=error)
    push_task_output(client, context, status, details)


@contextmanager
def _connected(address: str, token: str = "") -> Iterator[RuntimeHttpClient]:
    """Connect to the node, which listens on the loopback interface; a token authorises for one message."""
    tokens = [RuntimeTokenHttpInterceptor(token)] if token else []
    with RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), *tokens],
        retry_invoker=make_simple_http_retry_invoker(),
    ) as client:
        yield client


@contextmanager
def _beating(client: RuntimeHttpClient) -> Iterator[None]:
    """Send the task's heartbeat during the block. A node that has given the task up ends this process."""
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    try:
        yield
    finally:
        if heartbeat.is_running:
            heartbeat.stop()


def _listen() -> "queue.SimpleQueue[bytes]":
    """Return the queue of empty lines on the standard input; the process ends when the input is closed."""
    wakes: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Not with sys.stdin: at its end Python waits for that object's lock, which this thread has, and aborts.
    descriptor = sys.stdin.fileno()

    def read() -> None:
        while line := os.read(descriptor, 1):
            wakes.put(line)
        # Sent to the process, not to this thread: it wakes a sleeping main thread.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_SECONDS)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return wakes


def _end(number: int, frame: FrameType | None) -> None:
    for later in (signal.SIGINT, signal.SIGTERM):  # another signal must not interrupt the end
        signal.signal(later, signal.SIG_IGN)
    raise SystemExit(0)
