"""A node of Flower's whose runs and processes die at the wrong moment."""

from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.object_store import ObjectStoreFactory

from flames_cli.flower.mending import MendedState, mended


@pytest.fixture
def state(identity):
    made = MendedState(ObjectStoreFactory().store())
    made.set_node_id(5)
    return made


def message(number):
    made = Message(RecordDict({}), 5, "train")
    made.metadata.__dict__["_message_id"] = number
    return made


def answer(to):
    made = Message(RecordDict({}), reply_to=to)
    made.metadata.__dict__["_message_id"] = f"answer to {to.metadata.message_id}"
    return made


def test_a_process_that_died_before_it_read_its_message_is_answered_for(state):
    state.store_message(message("asked"))

    state._on_task_tokens_expired(
        [SimpleNamespace(run_id=message("asked").metadata.run_id, type="flwr-clientapp")]
    )

    (told,) = state.get_messages_legacy(is_reply=True)
    assert told.metadata.reply_to_message_id == "asked"
    assert told.error.reason == "ClientApp stopped responding."


def test_an_answer_that_waits_is_sent_though_no_message_comes(state):
    pull = mended(lambda *, state, receive: receive())

    assert pull(state=state, receive=lambda: None) is None
    state.store_message(asked := message("asked"))
    assert pull(state=state, receive=lambda: None) is None
    state.store_message(answer(asked))
    assert pull(state=state, receive=lambda: None) is not None
    state.get_messages_legacy(is_reply=True)
    assert pull(state=state, receive=lambda: None) is None


def test_a_message_that_was_not_received_whole_leaves_nothing_behind(state):
    def lose(*, state, receive):
        """As Flower's, where the run is over before all of its message is there."""
        got, _ = receive()
        state.create_task("flwr-clientapp", run_id=got.metadata.run_id, fab_hash="f")
        state.store_message(got)

    asked = message("asked")
    assert mended(lose)(state=state, receive=lambda: (asked, None)) is None

    assert state.get_messages_legacy() == []
    (task,) = state.get_tasks()
    assert task.finished_at
    assert state.claim_task(task.task_id) is None


def test_the_server_hears_of_a_message_that_was_not_received_whole(state):
    state.store_run(SimpleNamespace(run_id=message("asked").metadata.run_id))

    assert (
        mended(lambda *, state, receive: receive() and None)(
            state=state, receive=lambda: (message("asked"), None)
        )
        is not None
    )

    (told,) = state.get_messages_legacy(is_reply=True)
    assert told.metadata.reply_to_message_id == "asked"
    assert told.error.reason == "the message did not arrive whole"


def test_a_message_that_was_received_is_answered(state):
    def take(*, state, receive):
        got, _ = receive()
        state.store_message(got)
        return 7

    assert mended(take)(state=state, receive=lambda: (message("asked"), None)) == 7
    assert [one.metadata.message_id for one in state.get_messages_legacy()] == ["asked"]
