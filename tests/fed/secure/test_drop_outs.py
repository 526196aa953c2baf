"""Clients that fail or answer wrongly at each exchange of a secure round."""

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.inline import InlineGrid
from flames_cli.fed.events import Noted, ReportRejected
from flames_cli.fed.records import pack_weights, unpack_weights
from flames_cli.fed.secure import sums
from flames_cli.fed.secure.messages import (
    BLOBS,
    DEALING,
    OPENING,
    SECURE,
    SHARES,
    UNMASK,
    WORDS,
    only,
    read_part,
)
from flames_cli.secagg import Opening
from tests.support.asserts import assert_same
from tests.support.federation import drift, make_profile, run_federation
from tests.support.secure import ACTIONS, TRAIN, run_secure

FOUR = [make_profile(f"m{number}", n_train=10 * number) for number in range(1, 5)]
THREE = [make_profile(f"u{number}", "US", 5 + number) for number in range(1, 4)]
CLOSE = 1e-5


def in_round(number, action, *clients):
    """Return a function that replaces the answers of `clients` to `action` in one round."""

    def decorate(change):
        def spoil(at, client, round_, message, answer):
            if (at, round_) == (action, number) and client in clients:
                return change(message, answer)
            return answer()

        return spoil

    return decorate


def dying(number, action, *clients):
    """Return a function with which `clients` fail at `action` in one round."""

    @in_round(number, action, *clients)
    def spoil(message, answer):
        raise FlamesError("power cut")

    return spoil


def without(*clients):
    """Return training that fails at `clients` in round 2, for a plain run."""

    def train(request, weights, who):
        if who.client in clients and request.round == 2:
            raise FlamesError("power cut")
        return drift(request, weights, who)

    return train


def assert_close(found, expected):
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=CLOSE, err_msg=name)


@pytest.mark.parametrize("action", ACTIONS)
def test_one_client_of_four_may_drop_out_at_each_exchange(action, tmp_path):
    found = run_secure(FOUR, tmp_path, rounds=3, spoil=dying(2, action, "m2"))
    # A client that is lost after its vector has arrived is in the sum: the others' shares suffice.
    lost = () if action == UNMASK else ("m2",)
    plain = run_federation(FOUR, rounds=3, train=without(*lost))
    assert found.records[1]["rejected"] == dict.fromkeys(lost, "power cut")
    assert found.records[1]["accepted"] == [one.client for one in FOUR if one.client not in lost]
    assert found.records[2]["accepted"] == [one.client for one in FOUR]
    assert found.records[1]["groups"]["MRI"]["clients"] == 4 - len(lost)
    for client in ("m1", "m2", "m3"):
        # Also the client that was lost: it makes its model from the newest sum that it is in.
        assert_close(found.starts[client, 3], plain.received(3)[client])
    assert_close(found.state.server["MRI"], plain.state.server["MRI"])


@pytest.mark.parametrize("action", ACTIONS)
def test_a_group_that_is_too_small_after_a_drop_out_keeps_its_model_and_the_others_go_on(action, tmp_path):
    found = run_secure([*FOUR, *THREE], tmp_path, rounds=3, spoil=dying(2, action, "u2"))
    record, before, after = found.records[1], found.saved[0][0], found.saved[1][0]
    assert record["accepted"][:4] == ["m1", "m2", "m3", "m4"]
    if action == UNMASK:  # its vector has arrived, and two of three shares suffice
        assert record["rejected"] == {}
        return
    assert record["unchanged_groups"] == ["US"]
    assert list(record["groups"]) == ["MRI"]
    assert_same(after.server["US"], before.server["US"])
    assert record["rejected"]["u2"] == "power cut"
    assert record["rejected"]["u1"].startswith("the sum of its group was not opened: 2 ")
    named = record["rejected"]["u1"]
    assert "u2" in named or "u1; u3" in named
    assert [after.clients[one.client].round for one in THREE] == [1, 1, 1]
    assert found.records[2]["rejected"] == {}


def test_a_run_in_which_no_group_has_a_sum_says_why(tmp_path):
    with pytest.raises(FlamesError) as error:
        run_secure(THREE, tmp_path, spoil=dying(1, SHARES, "u1"))
    assert "round 1 opened no secure sum (u1: power cut; u2: the sum of its group was not opened: " in str(
        error.value
    )
    assert "run the same command again" in str(error.value)


def forged(kind):
    """Return what a client answers that does not do what it should."""

    def change(message, answer):
        reply = answer()
        if kind == "nothing":
            return Message(RecordDict(), reply_to=message)
        if kind == "another session":
            reply.content[SECURE]["session"] = "ab" * 16
        elif kind == "noise" and BLOBS in reply.content:
            reply.content[BLOBS] = pack_weights({DEALING: np.arange(50, dtype=np.uint8)})
        elif kind == "noise":
            reply.content[WORDS] = pack_weights({WORDS: np.arange(5, dtype=np.uint64)})
        elif kind == "floats":
            name = WORDS if WORDS in reply.content else BLOBS
            reply.content[name] = pack_weights({name: np.ones(13)})
        return reply

    return change


@pytest.mark.parametrize("kind", ["nothing", "another session", "noise", "floats"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_client_that_answers_wrongly_drops_out_with_the_reason(action, kind, tmp_path):
    found = run_secure(FOUR, tmp_path, rounds=1, spoil=in_round(1, action, "m3")(forged(kind)))
    if action == UNMASK:
        assert found.records[0]["rejected"] == {}
        return
    (rejected,) = [event for event in found.events if isinstance(event, ReportRejected)]
    assert rejected.client == "m3"
    assert found.records[0]["rejected"] == {"m3": rejected.reason}
    assert found.records[0]["accepted"] == ["m1", "m2", "m4"]
    named = ("cannot be read", "cannot be used", "has shape")
    assert any(words in rejected.reason for words in named)


def test_a_client_that_lies_in_its_shares_is_named_and_the_sum_is_opened_with_those_of_the_others(tmp_path):
    @in_round(1, UNMASK, "m3")
    def lie(message, answer):
        reply = answer()
        opening = Opening.from_bytes(only(read_part(reply), OPENING))
        seeds = {**opening.seeds, "m1": bytes(33)}
        blob = np.frombuffer(Opening(seeds, opening.keys).to_bytes(), np.uint8)
        reply.content[BLOBS] = pack_weights({OPENING: blob})
        return reply

    found = run_secure(FOUR, tmp_path, rounds=1, spoil=lie)
    notes = [event.note for event in found.events if isinstance(event, Noted)]
    assert notes == ["client m3 gave a wrong share of the seed of m1 in round 1"]
    assert found.records[0]["accepted"] == ["m1", "m2", "m3", "m4"]
    assert_close(found.state.server["MRI"], run_federation(FOUR, rounds=1).state.server["MRI"])


def test_the_vector_of_a_client_that_was_too_late_is_not_in_the_sum(tmp_path):
    """The words of a lost client never reach the collector, and the sum has no trace of them."""

    @in_round(1, TRAIN, "m2")
    def lose(message, answer):
        reply = answer()
        assert unpack_weights(reply, WORDS)[WORDS].size
        raise FlamesError("late")

    found = run_secure(FOUR, tmp_path, rounds=2, spoil=lose)
    others = [one for one in FOUR if one.client != "m2"]
    assert found.records[0]["accepted"] == [one.client for one in others]
    reports = [found.reports[one.client, 1].weights["conv.weight"] for one in others]
    np.testing.assert_allclose(
        found.saved[0][0].server["MRI"]["conv.weight"], np.mean(reports, axis=0), atol=CLOSE
    )
    # Its own report of round 1 was never accepted: it begins round 2 with the server's model.
    assert_same(found.starts["m2", 2], found.saved[0][0].server["MRI"])


def test_a_client_that_is_late_with_its_shares_takes_part_in_the_next_round(tmp_path, monkeypatch):
    """The first client by name, so that the replies of the others count before its turn."""
    push, pull, late = InlineGrid.push_messages, InlineGrid.pull_messages, {}

    def note_first(self, messages):
        listed = list(messages)
        numbers = list(push(self, listed))
        for number, message in zip(numbers, listed, strict=True):
            if message.metadata.message_type.endswith(UNMASK) and not late:
                late[number] = 5  # pulls without a reply
        return numbers

    def keep_late(self, numbers):
        asked = list(numbers)
        ready = [number for number in asked if late.get(number, 0) <= 0]
        late.update({number: late[number] - 1 for number in asked if number in late})
        return pull(self, ready)

    monkeypatch.setattr(InlineGrid, "push_messages", note_first)
    monkeypatch.setattr(InlineGrid, "pull_messages", keep_late)
    monkeypatch.setattr(sums, "GRACE_S", 0.0)
    found = run_secure(FOUR, tmp_path, rounds=3)
    notes = [event.note for event in found.events if isinstance(event, Noted)]
    assert notes == ["client m1 gave no shares to open the sum of round 1: late"]
    assert found.records[0]["accepted"] == [one.client for one in FOUR]
    assert found.records[2]["accepted"] == [one.client for one in FOUR]
    assert not any(record["rejected"] for record in found.records)
