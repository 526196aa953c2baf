"""State of a node whose runs and processes end at the wrong moment."""

from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.object_store import ObjectStoreFactory

from flames_cli.flower.node_state import GuardedState, GuardedStateFactory


@pytest.fixture
def state(identity):
    made = GuardedState(ObjectStoreFactory().store())
    made.set_node_id(5)
    return made


def message(message_id):
    made = Message(RecordDict({}), 5, "train")
    made.metadata.__dict__["_message_id"] = message_id
    return made


def test_a_process_that_ended_before_it_read_its_message_gets_an_error_reply(state):
    state.store_message(message("asked"))

    state._on_task_tokens_expired(
        [SimpleNamespace(run_id=message("asked").metadata.run_id, type="flwr-clientapp")]
    )

    (reply,) = state.get_messages_legacy(is_reply=True)
    assert reply.metadata.reply_to_message_id == "asked"
    assert reply.error.reason == "ClientApp stopped responding."


def test_the_loop_and_the_http_interface_share_one_guarded_state():
    factory = GuardedStateFactory(ObjectStoreFactory())

    assert isinstance(factory.state(), GuardedState)
    assert factory.state() is factory.state()
