"""The node's loop over Flower's own functions, with a server that is a stub."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run, RunNotRunningException

from flames_cli.fed.node import Declined
from flames_cli.flower.node_state import GuardedState, GuardedStateFactory
from flames_cli.flower.supernode import Connection, Node, connected_node, is_failure, pause_after
from tests.support.app_bundles import fab

RUN = 1
NODE = 5


class Server:
    """A server with one run of an app, that sends messages and collects the replies."""

    def __init__(self, fab: bytes) -> None:
        self.fab = Fab(hashlib.sha256(fab).hexdigest(), fab, {})
        self.inbox: list[Message] = []
        self.objects: dict[str, bytes] = {}
        self.replies: list[Message] = []
        self.lost: Exception | None = None
        """Raised when a node requests an object of a message."""

    def ask(self) -> Message:
        message = Message(RecordDict({}), NODE, "train")
        message.metadata.__dict__["_message_id"] = message.object_id
        self.objects |= {key: value.deflate() for key, value in get_all_nested_objects(message).items()}
        self.inbox.append(message)
        return message

    def connection(self) -> Connection:
        return Connection(
            node_id=NODE,
            receive=self._receive,
            send=self._send,
            get_run=self._get_run,
            get_fab=self._get_fab,
            pull_object=self._pull,
            push_object=self._push,
            confirm_message_received=self._confirm,
        )

    def _receive(self) -> tuple[Message, Any] | None:
        if not self.inbox:
            return None
        message = self.inbox.pop(0)
        return message, get_object_tree(message)

    def _send(self, message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
        self.replies.append(message)
        return set(), "session"

    def _get_run(self, run_id: int) -> Run:
        app = {"fab_id": "flames/flames-federation", "fab_version": "0.1.0", "fab_hash": self.fab.hash_str}
        return replace(Run.create_empty(run_id), **app)

    def _get_fab(self, fab_hash: str, run_id: int) -> Fab:
        return self.fab

    def _pull(self, run_id: int, object_id: str) -> bytes:
        if self.lost:
            raise self.lost
        return self.objects[object_id]

    def _push(self, run_id: int, session: str, object_id: str, content: bytes) -> None:
        """Do nothing: the replies of these tests are errors without objects."""

    def _confirm(self, run_id: int, message_id: str) -> None:
        """Do nothing."""


class Process:
    """A process that does `work` for each message; it has ended if the work is None."""

    def __init__(self) -> None:
        self.work: Callable[[], None] | None = None
        self.failures: list[bool] = []

    def wake(self) -> None:
        if self.work:
            self.work()

    def has_ended(self) -> bool:
        return self.work is None

    def finish(self, failed: bool) -> None:
        self.failures.append(failed)

    def rest(self) -> None:
        pass


@pytest.fixture
def joined(identity):
    """joined(content): a server with that app, and a node of it."""

    def join(content: bytes | None = None) -> tuple[Server, Node]:
        server, states = Server(content or fab()), GuardedStateFactory(ObjectStoreFactory())
        return server, connected_node(server.connection(), states, {}, Process())

    return join


def answer(state: GuardedState, message: Message) -> None:
    """Finish the task with an error reply, as the process does whose ClientApp has failed."""
    (got,) = state.get_messages_legacy(is_reply=False)
    assert got.metadata.message_id == message.metadata.message_id
    state.fail_tasks("it failed")
    state._on_task_tokens_expired([SimpleNamespace(run_id=message.metadata.run_id, type="flwr-clientapp")])


def test_the_node_has_the_guard_and_the_guarded_state(joined):
    _, node = joined()

    assert isinstance(node.state, GuardedState)
    assert node.state.get_node_id() == NODE
    assert node.guard._get_run == node.connection.get_run


def test_without_a_message_there_is_nothing_to_do(joined):
    server, node = joined()

    assert not node.exchange()
    assert server.replies == []


def test_a_message_is_stored_and_its_reply_is_sent(joined):
    server, node = joined()
    asked = server.ask()
    node.process.work = lambda: answer(node.state, asked)

    assert node.exchange()

    assert [reply.metadata.reply_to_message_id for reply in server.replies] == [asked.metadata.message_id]
    assert node.process.failures == [True]


def test_a_message_whose_process_ended_gets_an_error_and_the_next_one_is_answered(joined, monkeypatch):
    monkeypatch.setattr("flames_cli.flower.supernode.LOOK_SECONDS", 0.01)
    server, node = joined()
    asked = [server.ask()]

    assert node.exchange()

    asked.append(server.ask())
    node.process.work = lambda: answer(node.state, asked[1])
    assert node.exchange()
    assert [reply.error.reason for reply in server.replies] == ["ClientApp stopped responding."] * 2
    assert [reply.metadata.reply_to_message_id for reply in server.replies] == [
        message.metadata.message_id for message in asked
    ]
    assert all(task.finished_at for task in node.state.get_tasks())


def test_a_process_that_declines_a_task_has_not_failed(identity):
    def reply(error: Exception) -> Message:
        asked = Message(RecordDict({}), NODE, "train")
        return Message(Error(0, f"{type(error)}:<'{error}'>"), reply_to=asked)

    assert is_failure(reply(ValueError("no images")))
    assert not is_failure(reply(Declined("fewer images than its owner asks for")))


def test_a_node_asks_often_in_a_short_round_and_seldom_in_a_long_one():
    pauses = [pause_after(seconds, 0.01) for seconds in (0.0, 0.5, 2.0, 20.0, 60.0, 86400.0)]

    assert pauses == pytest.approx([0.1, 0.1, 0.2, 2.0, 3.0, 3.0])
    assert pause_after(0.5, 0.8) == pytest.approx(0.8)


def test_a_reply_that_waits_is_sent_even_if_no_message_comes(joined):
    server, node = joined()
    node.state.store_message(asked := server.ask())
    server.inbox.clear()
    assert not node.exchange()
    answer(node.state, asked)

    assert node.exchange()
    assert not node.exchange()
    assert len(server.replies) == 1


def test_the_server_gets_an_error_for_a_message_that_was_not_received_completely(joined):
    server, node = joined()
    asked, server.lost = server.ask(), OSError("gone")

    assert node.exchange()

    (reply,) = server.replies
    assert reply.metadata.reply_to_message_id == asked.metadata.message_id
    assert reply.error.reason == "the message was not received completely"
    assert node.state.get_messages_legacy() == []


def test_a_run_that_ends_while_its_message_is_received_leaves_no_task(joined):
    server, node = joined()
    server.ask()
    server.lost = RunNotRunningException()

    node.exchange()

    (task,) = node.state.get_tasks()
    assert task.finished_at
    assert node.state.claim_task(task.task_id) is None


def test_a_message_of_another_app_is_ignored_and_the_node_continues(joined):
    server, node = joined(fab(more={"evil.py": b""}))
    server.ask()

    assert not node.exchange()
    assert not node.exchange()
    assert server.replies == []
    assert list(node.state.get_tasks()) == []
    assert node.state.get_fab(server.fab.hash_str) is None
