import re
import time
from dataclasses import replace

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from flames_cli.errors import FlamesError
from flames_cli.fed.admission import Requirements
from flames_cli.fed.events import ClientJoined, NodeRejected, Waiting
from flames_cli.fed.exchange import exchange
from flames_cli.fed.messages import make_query, pack_profile, unpack_profile
from flames_cli.fed.pace import Pace
from flames_cli.fed.participation import Participation
from flames_cli.fed.roster import Roster
from flames_cli.fed.waiting import finish
from flames_cli.store.schema import SHARD
from tests.support.federation import make_profile

SIZE = 8
PATIENT = Participation(join_timeout_s=0.3, all_must_join=False)


class Grid:
    """Nodes that come and go: {number: profile}, or the text of an error."""

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


pytestmark = pytest.mark.usefixtures("identity")

QUICK = Pace(poll_s=0.001, longest_poll_s=0.001, presence_s=0.001, restart_s=0.0, ask_again_s=0.0)


@pytest.fixture
def events():
    return []


@pytest.fixture
def make(events):
    def make(grid, participation=PATIENT):
        return Roster(grid, Requirements(SIZE, channels=1), participation, events.append, QUICK)

    return make


def names(members):
    return [profile.client for _, profile in members]


def train(grid, roster, members):
    """Ask `members` to train; return the nodes that replied in time."""
    messages = (Message(RecordDict(), node, "train") for node, _ in members)
    terms = replace(roster.terms(lambda message: None), seconds=0.02)
    replied = []
    for reply in exchange(grid, messages, terms):
        if reply is None:
            continue
        roster.settle(reply)
        if reply.message is not None:
            replied.append(reply.node)
    return replied


def test_a_node_is_asked_once_for_its_profile(make):
    grid = Grid({7: make_profile("b"), 3: make_profile("a")})
    roster = make(grid)
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["a", "b"]
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a", "b"]
    assert grid.asked == [3, 7]


def test_a_node_that_never_sends_its_profile_delays_no_other(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("mute")})
    grid.busy = {2}
    roster = make(grid, replace(PATIENT, join_timeout_s=60))
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["a"]
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a"]
    assert grid.asked.count(2) == 1
    grid.busy = set()
    assert names(finish(roster.wait_for_clients(3), QUICK)) == ["a", "mute"]


def test_if_all_must_join_every_node_must_send_its_profile(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("slow")})
    grid.busy, look, looks = {2}, Roster._find_present, []

    def answer_late(self):
        looks.append(None)
        if len(looks) == 3:
            grid.busy = set()
        return look(self)

    monkeypatch.setattr(Roster, "_find_present", answer_late)
    assert names(finish(make(grid, Participation()).wait_for_clients(1), QUICK)) == ["a", "slow"]


def test_a_client_that_comes_later_takes_part_from_then_on(make, events):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    finish(roster.wait_for_clients(1), QUICK)
    grid.profiles[2] = make_profile("b", "US", 4)
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a", "b"]
    assert events[-1] == ClientJoined("b", "US", "brain", 4)


def test_the_first_round_waits_for_all_that_are_expected_and_makes_do_with_enough(make, events):
    started = time.monotonic()
    members = finish(
        make(Grid({1: make_profile("a")}), replace(PATIENT, expected_nodes=2)).wait_for_clients(1), QUICK
    )
    assert names(members) == ["a"]
    assert time.monotonic() - started >= PATIENT.join_timeout_s
    assert [event.missing for event in events if isinstance(event, Waiting)] == [
        "1 of 2 expected clients can be asked"
    ]


def test_a_round_waits_until_enough_clients_of_each_modality_are_present(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("u", "US")})
    roster = make(grid, replace(PATIENT, join_timeout_s=5, min_clients_by_modality={"US": 2}))
    looks = []
    look = Roster._find_present

    def come_late(self):
        looks.append(None)
        if len(looks) == 3:
            grid.profiles[3] = make_profile("v", "US")
        return look(self)

    monkeypatch.setattr(Roster, "_find_present", come_late)
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["a", "u", "v"]
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
        finish(roster.wait_for_clients(4), QUICK)


def test_when_all_have_gone_the_run_ends(make):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    finish(roster.wait_for_clients(1), QUICK)
    grid.profiles.clear()
    with pytest.raises(FlamesError, match=r"round 2 cannot start after 0\.3 s: no client"):
        finish(roster.wait_for_clients(2), QUICK)


def test_a_modality_that_may_be_missing_is_not_waited_for(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("u", "US")})
    roster = make(grid, replace(PATIENT, min_clients_by_modality={"US": 0}))
    finish(roster.wait_for_clients(1), QUICK)
    del grid.profiles[2]
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a"]


def test_a_late_client_is_not_asked_until_it_is_done_and_then_joins_again(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    grid_members = finish(roster.wait_for_clients(1), QUICK)
    grid.busy = {2}
    assert train(grid, roster, grid_members) == [1]
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a"]
    grid.busy = set()
    assert names(finish(roster.wait_for_clients(3), QUICK)) == ["a", "b"]


def test_a_reply_for_which_other_work_waits_is_not_taken_as_late(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    members = finish(roster.wait_for_clients(1), QUICK)
    grid.busy = {2}
    node, profile = members[1]
    waited_for = exchange(grid, [make_query(node)], roster.terms())
    assert next(waited_for) is None
    grid.busy = set()
    assert names(roster.present()) == ["a"]
    reply = next(one for one in waited_for if one)
    assert unpack_profile(reply.message) == profile
    roster.settle(reply)
    assert names(roster.present()) == ["a", "b"]


def test_a_node_that_restarted_is_admitted_again(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    members = finish(roster.wait_for_clients(1), QUICK)
    grid.busy = {2}
    assert train(grid, roster, members) == [1]
    grid.activated[2] = "later"
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": 16}, "its images are 16×16, this federation's 8×8"),
        ({"channels": 3}, r"its images have 3 channel\(s\), this federation's have 1"),
        ({"protocol": 1}, "it speaks protocol 1, this server"),
        ({"format": SHARD.version + 1}, f"its shard has version {SHARD.version + 1} of flames-shard"),
    ],
)
def test_a_client_that_does_not_fit_is_rejected_by_name_and_the_others_continue(
    make, events, changes, problem
):
    grid = Grid({1: make_profile("good"), 2: make_profile("odd", **changes)})
    roster = make(grid)
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["good"]
    (refused,) = [event for event in events if isinstance(event, NodeRejected)]
    assert refused.node == "client odd"
    assert re.match(problem, refused.reason)


def test_a_rejected_client_may_correct_the_problem_and_join(make, events):
    grid = Grid({1: make_profile("a"), 2: "its shard is gone"})
    roster = make(grid)
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["a"]
    assert names(finish(roster.wait_for_clients(2), QUICK)) == ["a"]
    assert [event for event in events if isinstance(event, NodeRejected)] == [
        NodeRejected("node 2", "its shard is gone")
    ]
    grid.profiles[2] = make_profile("b")
    assert names(finish(roster.wait_for_clients(3), QUICK)) == ["a", "b"]


def test_a_node_cannot_take_the_name_that_another_key_is_registered_for(make, events):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    grid.names = {1: "a", 2: "c"}
    assert names(finish(make(grid).wait_for_clients(1), QUICK)) == ["a"]
    assert NodeRejected("client b", "its key is registered as c; start it with that site's folder") in events


def test_a_client_may_come_back_as_another_node(make):
    grid = Grid({1: make_profile("a")})
    roster = make(grid)
    finish(roster.wait_for_clients(1), QUICK)
    grid.profiles = {9: make_profile("a")}
    assert finish(roster.wait_for_clients(2), QUICK) == [(9, make_profile("a"))]
    assert len(roster.known) == 1


def test_two_nodes_of_one_name_cannot_both_join(make, events):
    assert (
        len(finish(make(Grid({1: make_profile("a"), 2: make_profile("a")})).wait_for_clients(1), QUICK)) == 1
    )
    assert (
        NodeRejected("client a", "another node has the same name; stop one of them, or give it another name")
        in events
    )


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
def test_an_impossible_profile_is_rejected_and_the_others_continue(make, events, changes):
    grid = Grid({1: make_profile("good"), 2: replace(make_profile("odd"), **changes)})
    assert names(finish(make(grid).wait_for_clients(1), QUICK)) == ["good"]
    assert len([event for event in events if isinstance(event, NodeRejected)]) == 1


def test_the_final_evaluation_waits_for_late_clients(make, monkeypatch):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid, replace(PATIENT, join_timeout_s=60))
    members = finish(roster.wait_for_clients(1), QUICK)
    grid.busy = {2}
    train(grid, roster, members)
    looks, look = [], Roster._find_present

    def come_back(self):
        looks.append(None)
        if len(looks) == 3:
            grid.busy = set()
        return look(self)

    monkeypatch.setattr(Roster, "_find_present", come_back)
    assert names(finish(roster.available_clients(), QUICK)) == ["a", "b"]


def test_the_final_evaluation_continues_without_absent_clients(make):
    grid = Grid({1: make_profile("a"), 2: make_profile("b")})
    roster = make(grid)
    finish(roster.wait_for_clients(1), QUICK)
    del grid.profiles[2]
    assert names(finish(roster.available_clients(), QUICK)) == ["a"]


def test_the_final_evaluation_does_not_wait_for_a_rejected_node(make, monkeypatch):
    pauses = []
    monkeypatch.setattr("flames_cli.fed.waiting.time.sleep", pauses.append)
    grid = Grid({1: make_profile("a"), 2: make_profile("b", protocol=1)})
    roster = make(grid, replace(PATIENT, expected_nodes=2, join_timeout_s=60))
    assert names(finish(roster.available_clients(), QUICK)) == ["a"]
    assert pauses == []


def test_a_client_too_small_for_batchnorm_is_rejected_by_name_before_it_trains(events):
    grid = Grid({1: replace(make_profile("lone"), n_train=1), 2: replace(make_profile("two"), n_train=2)})
    roster = Roster(grid, Requirements(SIZE, 1, smallest_batch=2), PATIENT, events.append, QUICK)
    assert names(finish(roster.wait_for_clients(1), QUICK)) == ["two"]
    (rejected,) = [event for event in events if isinstance(event, NodeRejected)]
    assert rejected.node == "client lone"
    assert "it has 1 training image, and this model needs 2 in a step at 8×8" in rejected.reason
    assert "--norm group" in rejected.reason
