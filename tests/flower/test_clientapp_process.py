"""The process that answers a node's messages: its work against Flower's real interface of a node."""

import hashlib
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import uvicorn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode.main import create_app

from flames_cli.flower.app_guard import CLIENT_APP
from flames_cli.flower.clientapp_process import allow_listed_plugins, load_app, serve
from flames_cli.flower.node_state import GuardedStateFactory
from flames_cli.flower.processes import free_port
from flames_cli.flower.retries import FIRST_SECONDS, retry_soon
from flames_cli.plugins import ALLOWED_VARIABLE, allowed_packages
from tests.support.app_bundles import fab

RUN, NODE = 1, 5


@pytest.fixture(scope="module")
def interface():
    """(the address of a node's interface, the node's state)."""
    states = GuardedStateFactory(ObjectStoreFactory())
    port = free_port()
    app = create_app(state_factory=states, superexec_auth_secret=None)
    server = uvicorn.Server(uvicorn.Config(app, port=port, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    state = states.state()
    state.set_node_id(NODE)
    app = Fab(hashlib.sha256(fab()).hexdigest(), fab(), {})
    described = {"fab_id": "flames/flames-federation", "fab_version": "0.1.0", "fab_hash": app.hash_str}
    state.store_run(replace(Run.create_empty(RUN), **described))
    state.store_fab(app)
    run = state.get_run(RUN)
    state.set_run_series_context(run.series_id, Context(RUN, NODE, {"client": "a"}, RecordDict(), {}))
    yield f"127.0.0.1:{port}", state
    server.should_exit = True
    thread.join(10)


def ask(state, kind: str) -> Message:
    """Store a message to the node, with its task, as the node's loop does."""
    message = Message(RecordDict({"numbers": ConfigRecord({"a": 1})}), NODE, kind)
    message.metadata.__dict__["_message_id"] = message.object_id
    message.metadata.__dict__["_run_id"] = RUN
    state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="")
    state.object_store.preregister(RUN, get_object_tree(message))
    for object_id, part in get_all_nested_objects(message).items():
        state.object_store.put(object_id, part.deflate())
    state.store_message(message)
    return message


@pytest.fixture
def app() -> ClientApp:
    made = ClientApp()

    @made.query()
    def query(message: Message, context: Context) -> Message:
        numbers = ConfigRecord({"b": message.content["numbers"]["a"] + 1, **context.node_config})
        return Message(RecordDict({"numbers": numbers}), reply_to=message)

    @made.train()
    def train(message: Message, context: Context) -> Message:
        raise ValueError("no images")

    return made


def test_messages_are_answered_one_after_the_other(interface, app, identity):
    address, state = interface
    for _ in range(2):
        asked = ask(state, "query")
        assert not state.wait_for_reply(0.0)

        serve(address, app)

        assert state.wait_for_reply(0.0)
        (reply,) = state.get_messages_legacy(is_reply=True)
        assert reply.metadata.reply_to_message_id == asked.metadata.message_id
        assert not reply.has_error()
        tree = state.object_store.get_object_tree(reply.metadata.message_id)
        assert all(state.object_store.get(child.object_id) for child in tree.children)
        state.delete_messages(message_ids=[reply.metadata.message_id, asked.metadata.message_id])


def test_an_app_that_fails_gives_an_error_reply_with_its_reason(interface, app, identity):
    address, state = interface
    asked = ask(state, "train")

    serve(address, app)

    assert state.wait_for_reply(0.0)
    (reply,) = state.get_messages_legacy(is_reply=True)
    assert "no images" in reply.error.reason
    state.delete_messages(message_ids=[reply.metadata.message_id, asked.metadata.message_id])


def test_without_a_message_nothing_happens(interface, app):
    serve(interface[0], app)

    assert interface[1].replies() == []


@pytest.mark.parametrize(
    ("listed", "allowed"), [('{"parts": "1.0"}', {"parts": "1.0"}), ("{}", {}), (None, {}), ("x", {})]
)
def test_a_node_loads_plugins_of_its_owners_list_alone(listed, allowed, monkeypatch):
    monkeypatch.setenv(ALLOWED_VARIABLE, listed or "")
    if listed is None:
        monkeypatch.delenv(ALLOWED_VARIABLE)
    allow_listed_plugins()
    assert allowed_packages() == allowed


def test_the_app_is_the_installed_one():
    from flames_cli.fed.apps import client_app

    assert load_app(CLIENT_APP) is client_app


def test_flower_waits_a_moment_only_for_an_object_that_comes_late(monkeypatch):
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        monkeypatch.setattr(function, "__kwdefaults__", dict(function.__kwdefaults__))
    tries = iter([inflatable_utils.ObjectUnavailableError("a"), b"content"])

    def pull(_: str) -> bytes:
        got = next(tries)
        if isinstance(got, Exception):
            raise got
        return got

    retry_soon()

    assert FIRST_SECONDS < 0.1
    assert inflatable_utils.pull_objects.__kwdefaults__["initial_backoff"] == FIRST_SECONDS
    assert inflatable_utils.pull_objects(["a"], pull) == {"a": b"content"}


@pytest.mark.slow
def test_a_signal_ends_the_process_while_it_listens():
    code = (
        "import signal, time; from flames_cli.flower import clientapp_process as process; "
        "signal.signal(signal.SIGTERM, process._end); wakes = process._listen(); wakes.get(); "
        "print('listens', flush=True); time.sleep(60)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"listens\n"

        process.send_signal(signal.SIGTERM)

        assert process.wait(60) == 0
        assert process.stderr.read() == b""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["closed", "signal"])
def test_the_process_ends_with_its_node(way):
    command = [sys.executable, "-m", "flames_cli.flower", "clientapp", "127.0.0.1:1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin
    if way == "signal":
        process.send_signal(signal.SIGTERM)
    process.stdin.close()

    assert process.wait(60) in (0, -signal.SIGTERM)
