import re
import time
from dataclasses import replace

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from flames_cli.errors import FlamesError
from flames_cli.fed import exchange as exchange_module
from flames_cli.fed import roster as joining
from flames_cli.fed.events import ClientJoined, NodeRejected, Waiting
from flames_cli.fed.exchange import exchange
from flames_cli.fed.messages import pack_profile
from flames_cli.fed.participation import Participation
from flames_cli.fed.roster import Roster
from flames_cli.store.schema import SHARD
from tests.support.federation import make_profile

SIZE = 8
PATIENT = Participation(join_timeout_s=0.3, all_must_join=False)


class Grid:
    """Nodes that come and go: {number: profile}, or an error's words."""

    def __init__(self, profiles):
        self.profiles = dict(profiles)
        self.names = {}
        self.activated = {}
        self.busy = set()
        self.asked = []
        self._out = {}

    def get_node_ids(self):
        return list(self.profiles)

    def get_nodes(self):
        return [
            NodeInfo(
                node_id=node, name=self.names.get(node, ""), last_activated_at=self.activated.get(node, "")
            )
            for node in self.profiles
        ]

    def push_messages(self, messages):
        numbers = []
        for message in messages:
            number = str(len(self.asked) + 1)
            message.metadata.__dict__["_message_id"] = number
            self.asked.append(message.metadata.dst_node_id)
            self._out[number] = message
            numbers.append(number)
        return numbers

    def pull_messages(self, numbers):
        replies = []
        for number in [number for number in numbers if number in self._out]:
            node = self._out[number].metadata.dst_node_id
            if node in self.busy:
                continue
            message, answer = self._out.pop(number), self.profiles[node]
            if isinstance(answer, str):
                replies.append(Message(Error(1, answer), reply_to=message))
            else:
                replies.append(pack_profile(answer, message))
        return replies


@pytest.fixture(autouse=True)
def _quick(identity, monkeypatch):
    for module, name, value in (
        (exchange_module, "POLL_SECONDS", 0.001),
        (exchange_module, "LONGEST_POLL_SECONDS", 0.001),
        (joining, "POLL_SECONDS", 0.001),
        (joining, "ASK_AGAIN_SECONDS", 0.0),
        (joining, "LOOK_SECONDS", 0.0),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def events():
    return []


@pytest.fixture
def make(events):
    def make(grid, participation=PATIENT):
        return Roster(grid, SIZE, 1, participation, events.append)

    return make


def names(members):
    return [profile.client for _, profile in members]


def train(grid, roster, members):
    """Ask `members` to train; who replied in time."""
    messages = (Message(RecordDict(), node, "train") for node, _ in members)
    terms = replace(roster.terms(lambda message: None), seconds=0.02)
    replied = []
    for reply in exchange(grid, messages, terms):
        roster.settle(reply)
        if reply.message is not None:
            replied.append(reply.node)
    return replied


def test_a_node_is_asked_once_who_it_is(make):
    grid = Grid({7: make_profile("b"), 3: make_profile("a")})
    roster = make(grid)
    assert names(roster.wait_for_clients(1)) == ["a", "b"]
    assert names(roster.wait_for_clients(2)) == ["a", "b"]
    assert grid.asked == [3, 7]


def test_a_node_that_never_says_what_it_is_delays_nobody(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("mute")})
    grid.busy = {2}
    roster = make(grid, replace(PATIENT, join_timeout_s=60))
    assert names(roster.wait_for_clients(1)) == ["a"]
    assert names(roster.wait_for_clients(2)) == ["a"]
    assert grid.asked.count(2) == 1
    grid.busy = set()
    assert names(roster.wait_for_clients(3)) == ["a", "mute"]


def test_where_all_are_there_by_nature_every_node_must_say_what_it_is(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("slow")})
    grid.busy, look, looks = {2}, Roster._look_round, []

    def answer_late(self):
        looks.append(None)
        if len(looks) == 3:
            grid.busy = set()
        return look(self)

    monkeypatch.setattr(Roster, "_look_round", answer_late)
    assert names(make(grid, Participation()).wait_for_clients(1)) == ["a", "slow"]


def test_a_client_that_comes_later_takes_part_from_then_on(make, events):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    roster.wait_for_clients(1)
    grid.profiles[2] = make_profile("b", "US", 4)
    assert names(roster.wait_for_clients(2)) == ["a", "b"]
    assert events[-1] == ClientJoined("b", "US", "brain", 4)


def test_the_first_round_waits_for_all_that_are_expected_and_makes_do_with_enough(make, events):
    started = time.monotonic()
    members = make(Grid({1: make_profile("a")}), replace(PATIENT, expected_nodes=2)).wait_for_clients(1)
    assert names(members) == ["a"]
    assert time.monotonic() - started >= PATIENT.join_timeout_s
    assert [event.missing for event in events if isinstance(event, Waiting)] == [
        "1 of 2 expected clients can be asked"
    ]


def test_a_round_waits_until_enough_of_each_modality_are_there(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("u", "US")})
    roster = make(grid, replace(PATIENT, join_timeout_s=5, min_clients_by_modality={"US": 2}))
    looks = []
    look = Roster._look_round

    def come_late(self):
        looks.append(None)
        if len(looks) == 3:
            grid.profiles[3] = make_profile("v", "US")
        return look(self)

    monkeypatch.setattr(Roster, "_look_round", come_late)
    assert names(roster.wait_for_clients(1)) == ["a", "u", "v"]
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("participation", "problem"),
    [
        ({"min_clients": 2}, "2 of MRI are needed, 1 can be asked"),
        ({"min_clients_by_modality": {"CT": 1}}, "1 of CT are needed, 0 can be asked"),
    ],
)
def test_a_round_without_enough_clients_ends_the_run_in_words(make, participation, problem):
    roster = make(Grid({1: make_profile("a")}), replace(PATIENT, **participation))
    with pytest.raises(
        FlamesError, match=rf"round 4 cannot start after 0.3 s: {problem}; .*run the same command"
    ):
        roster.wait_for_clients(4)


def test_when_all_have_gone_the_run_ends(make):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    roster.wait_for_clients(1)
    grid.profiles.clear()
    with pytest.raises(FlamesError, match=r"round 2 cannot start after 0\.3 s: no client"):
        roster.wait_for_clients(2)


def test_a_modality_that_may_be_missing_is_not_waited_for(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("u", "US")})
    roster = make(grid, replace(PATIENT, min_clients_by_modality={"US": 0}))
    roster.wait_for_clients(1)
    del grid.profiles[2]
    assert names(roster.wait_for_clients(2)) == ["a"]


def test_a_late_client_is_left_alone_until_it_is_done_and_then_taken_up_again(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    grid_members = roster.wait_for_clients(1)
    grid.busy = {2}
    assert train(grid, roster, grid_members) == [1]
    assert names(roster.wait_for_clients(2)) == ["a"]
    grid.busy = set()
    assert names(roster.wait_for_clients(3)) == ["a", "b"]


def test_a_node_that_started_anew_is_taken_up_again(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    members = roster.wait_for_clients(1)
    grid.busy = {2}
    assert train(grid, roster, members) == [1]
    grid.activated[2] = "later"
    assert names(roster.wait_for_clients(2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": 16}, "its images are 16×16, this federation's 8×8"),
        ({"channels": 3}, r"its images are of 3 channel\(s\), this federation's of 1"),
        ({"protocol": 1}, "it speaks protocol 1, this server"),
        ({"format": SHARD.version + 1}, f"its shard has version {SHARD.version + 1} of flames-shard"),
    ],
)
def test_who_does_not_fit_is_refused_by_name_and_the_others_go_on(make, events, changes, problem):
    grid = Grid({1: make_profile("good"), 2: make_profile("odd", **changes)})
    roster = make(grid)
    assert names(roster.wait_for_clients(1)) == ["good"]
    (refused,) = [event for event in events if isinstance(event, NodeRejected)]
    assert refused.node == "client odd"
    assert re.match(problem, refused.reason)


def test_who_was_refused_may_mend_and_join(make, events):
    grid = Grid({1: make_profile("a"), 2: "its shard is gone"})
    roster = make(grid)
    assert names(roster.wait_for_clients(1)) == ["a"]
    assert names(roster.wait_for_clients(2)) == ["a"]
    assert [event for event in events if isinstance(event, NodeRejected)] == [
        NodeRejected("node 2", "its shard is gone")
    ]
    grid.profiles[2] = make_profile("b")
    assert names(roster.wait_for_clients(3)) == ["a", "b"]


def test_a_node_cannot_take_the_name_that_another_key_is_registered_for(make, events):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    grid.names = {1: "a", 2: "c"}
    assert names(make(grid).wait_for_clients(1)) == ["a"]
    assert NodeRejected("client b", "its key is registered as c; start it with that site's folder") in events


def test_a_client_may_come_back_as_another_node(make):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    roster.wait_for_clients(1)
    grid.profiles = {9: make_profile("a")}
    assert roster.wait_for_clients(2) == [(9, make_profile("a"))]
    assert len(roster.known) == 1


def test_two_nodes_of_one_name_cannot_both_join(make, events):
    assert len(make(Grid({1: make_profile("a"), 2: make_profile("a")})).wait_for_clients(1)) == 1
    assert NodeRejected("client a", "another node has that name") in events


@pytest.mark.parametrize(
    "changes",
    [
        {"client": ["x", "y"]},
        {"client": 7},
        {"client": ""},
        {"client": "a\nb"},
        {"client": 300 * "a"},
        {"modality": ["MRI"]},
        {"n_train": "many"},
        {"n_train": 2.5},
        {"n_train": True},
        {"n_train": 0},
    ],
)
def test_a_profile_that_cannot_be_is_refused_and_the_others_go_on(make, events, changes):
    grid = Grid({1: make_profile("good"), 2: replace(make_profile("odd"), **changes)})
    assert names(make(grid).wait_for_clients(1)) == ["good"]
    assert len([event for event in events if isinstance(event, NodeRejected)]) == 1


def test_the_final_test_waits_for_who_is_late(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid, replace(PATIENT, join_timeout_s=60))
    members = roster.wait_for_clients(1)
    grid.busy = {2}
    train(grid, roster, members)
    looks, look = [], Roster._look_round

    def come_back(self):
        looks.append(None)
        if len(looks) == 3:
            grid.busy = set()
        return look(self)

    monkeypatch.setattr(Roster, "_look_round", come_back)
    assert names(roster.available_clients()) == ["a", "b"]


def test_the_final_test_goes_on_without_who_stays_away(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    roster.wait_for_clients(1)
    del grid.profiles[2]
    assert names(roster.available_clients()) == ["a"]
