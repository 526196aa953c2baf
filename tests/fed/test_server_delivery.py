"""The delivery of the final models: the server's side, with stub clients."""

import pytest

from flames_cli.core.federated.reports import LastReport, State
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Noted
from flames_cli.fed.federation import EarlierRounds
from flames_cli.fed.final_model import StoredModel, pack_stored, unpack_final_model
from flames_cli.fed.server_delivery import Delivery, find_pending
from flames_cli.store.clients import KeptModel
from flames_cli.store.weights import hash_weights
from tests.support.asserts import assert_same
from tests.support.federation import make_profile, run_federation

PROFILES = [make_profile("a"), make_profile("b"), make_profile("u", "US")]


class Books:
    """A record of which clients have their model, and what was sent to them."""

    def __init__(self, **kept):
        self.kept = dict(kept)
        self.sent = {}

    @property
    def delivery(self):
        return Delivery(lambda: dict(self.kept), self.kept.__setitem__, lambda state: f"round {state.round}")

    def store(self, message, profile):
        """Answer as an honest client."""
        found = unpack_final_model(message)
        self.sent[profile.client] = found
        return pack_stored(StoredModel(profile.client, found.task.request.round, found.sha256), message)


def run(books, keep=None, **options):
    return run_federation(PROFILES, delivery=books.delivery, keep=keep or books.store, **options)


def notes(seen):
    return [event.note for event in seen.events if isinstance(event, Noted)]


@pytest.mark.parametrize("algorithm", ["flames", "fedavg", "fedavg-modality", "local", "flames-adaptive"])
def test_every_client_gets_its_model_as_the_server_has_it(algorithm):
    books = Books()
    seen = run(books, algorithm=algorithm, wire_dtype="bf16")
    groups = {client: last.group for client, last in seen.state.clients.items()}
    for profile in PROFILES:
        sent = books.sent[profile.client]
        expected = seen.state.final_model_for(profile.client, groups[profile.client], profile.modality)
        assert_same(sent.task.weights, expected)
        assert books.kept[profile.client] == KeptModel(2, hash_weights(expected))
        assert (sent.why, sent.task.request.wire_dtype) == ("round 2", "fp32")
    assert notes(seen) == []


def test_the_model_is_that_of_the_chosen_round():
    books, rounds = Books(), []
    earlier = EarlierRounds(lambda result, on_event: [], lambda state: None, lambda last: rounds[0])
    seen = run(books, rounds=3, on_event=None, earlier=earlier, on_save=lambda state: rounds.append(state))
    assert {kept.round for kept in books.kept.values()} == {1}
    assert_same(books.sent["a"].task.weights, seen.saved[0][0].final_model_for("a", "MRI", "MRI"))


def _failing(message, profile):
    raise FlamesError("the client failed; the reason is in the node's own log")


def _other(change):
    def answer(message, profile):
        found = unpack_final_model(message)
        stored = {"client": profile.client, "round": found.task.request.round, "sha256": found.sha256}
        return pack_stored(StoredModel(**{**stored, **change}), message)

    return answer


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (_failing, "the client failed; the reason is in the node's own log"),
        (_other({"sha256": "0" * 64}), "it stored another model than the server sent"),
        (_other({"round": 1}), "it stored another model than the server sent"),
        (_other({"client": "b"}), "it reports as 'b', it joined as 'a'"),
        (_other({"client": "x\x1b[2J" * 999}), "it reports as 'x[2J"),
        (_other({"sha256": "none"}), "its answer about its model cannot be read"),
    ],
)
def test_a_client_that_did_not_store_its_model_is_named_and_the_others_have_theirs(keep, reason):
    books = Books()
    seen = run(books, keep=lambda message, one: (keep if one.client == "a" else books.store)(message, one))
    (note,) = notes(seen)
    assert f"a: {reason}" in note
    assert note.isprintable()
    assert set(books.kept) == {"b", "u"}


def test_a_finished_run_sends_only_the_models_that_are_missing():
    first = run(Books())
    books = Books(a=KeptModel(2, "0" * 64))
    again = run(books, resumed=first.state)
    assert set(books.sent) == {"b", "u"}
    assert again.saved == []
    complete = Books(**{name: KeptModel(2, "0" * 64) for name in "abu"})
    run(complete, resumed=first.state)
    assert complete.sent == {}


def test_after_new_rounds_a_client_with_the_same_model_learns_that_the_run_has_ended():
    books = Books(**{name: KeptModel(2, "0" * 64) for name in "abu"})
    run(books)
    assert set(books.sent) == {"a", "b", "u"}


def test_a_client_that_is_gone_is_named_after_the_last_round():
    first = run(Books())
    seen = run_federation(
        PROFILES[:2], resumed=first.state, delivery=(books := Books()).delivery, keep=books.store
    )
    (note,) = notes(seen)
    assert "u: it was not present after the last round" in note
    assert set(books.kept) == {"a", "b"}


def test_a_client_whose_group_is_newer_than_the_chosen_round_gets_the_last_model():
    chosen = State(1, {"MRI": {}}, clients={"a": LastReport("MRI", 1)})
    last = State(3, {"MRI": {}, "US": {}}, clients={"a": LastReport("MRI", 3), "u": LastReport("US", 3)})
    kept = {"a": KeptModel(1, ""), "u": KeptModel(3, "")}
    assert find_pending(Books(**kept).delivery, chosen, last) == []
    assert find_pending(Books(a=KeptModel(3, ""), u=KeptModel(1, "")).delivery, chosen, last) == ["a", "u"]


def test_without_a_delivery_no_model_is_sent():
    seen = run_federation(PROFILES)
    assert notes(seen) == []
