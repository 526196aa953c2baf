import itertools
import time

import pytest
from flwr.app import Message, RecordDict

from flames_cli.fed.exchange import HELD, TTL_SECONDS, Reply, Terms, exchange
from flames_cli.fed.pace import Pace


class Node:
    """A node that replies after this many pulls; never: after none."""

    def __init__(self, after=1):
        self.after = after


class Grid:
    """Carries messages between the test and `nodes`, {number: Node}."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.out = {}
        self.sent = []
        self.most_out = 0
        self.numbers = itertools.count(1)

    def push_messages(self, messages):
        numbers = []
        for message in messages:
            number = str(next(self.numbers))
            message.metadata.__dict__["_message_id"] = number
            node = self.nodes[message.metadata.dst_node_id]
            self.sent.append(message)
            if node is None:
                numbers.append(None)
                continue
            self.out[number] = [message, node.after]
            self.most_out = max(self.most_out, len(self.out))
            numbers.append(number)
        return numbers

    def pull_messages(self, numbers):
        replies = []
        for number in list(numbers):
            waiting = self.out[number]
            if waiting[1] is None:
                continue
            waiting[1] -= 1
            if waiting[1] < 0:
                del self.out[number]
                replies.append(Message(RecordDict(), reply_to=waiting[0]))
        return replies


pytestmark = pytest.mark.usefixtures("identity")

QUICK = Pace(poll_s=0.001, longest_poll_s=0.001)


def messages(nodes):
    return (Message(RecordDict(), node, "train") for node in nodes)


def replies_of(grid, messages, terms):
    return (reply for reply in exchange(grid, messages, terms) if reply is not None)


def run(nodes, **terms):
    grid = Grid(nodes)
    return list(replies_of(grid, messages(nodes), Terms(**terms, pace=QUICK))), grid


@pytest.mark.parametrize("after", list(itertools.permutations([0, 3, 9])))
def test_replies_come_in_the_order_of_the_messages(after):
    replies, _ = run(dict(zip([5, 2, 9], map(Node, after), strict=True)))
    assert [reply.node for reply in replies] == [5, 2, 9]
    assert [reply.message.metadata.src_node_id for reply in replies] == [5, 2, 9]


def test_every_arrival_is_reported_when_it_comes():
    arrived = []
    replies, _ = run({1: Node(20), 2: Node(0), 3: Node(5)}, on_arrival=arrived.append)
    assert arrived == [2, 3, 1]
    assert len(replies) == 3


def test_no_more_messages_are_out_than_allowed():
    replies, grid = run({node: Node(node % 4) for node in range(1, 30)}, in_flight=3)
    assert grid.most_out <= 3
    assert [reply.node for reply in replies] == list(range(1, 30))


def test_messages_are_made_when_it_is_their_turn():
    made = []

    def make():
        for node in range(1, 10):
            made.append(node)
            yield Message(RecordDict(), node, "train")

    replies = replies_of(
        Grid({node: Node(0) for node in range(1, 10)}), make(), Terms(in_flight=2, pace=QUICK)
    )
    next(replies)
    assert len(made) <= 2


def test_few_replies_are_held_for_an_earlier_one():
    n = 3 * HELD
    grid = Grid({1: Node(200), **{node: Node(0) for node in range(2, n)}})
    held = []
    for _ in replies_of(
        grid, messages(grid.nodes), Terms(on_arrival=lambda m: held.append(len(held)), pace=QUICK)
    ):
        if len(held) <= HELD + 1:
            assert len(grid.out) >= n - 1 - HELD - 1
        held.append(0)
    assert len(grid.out) == 0


def test_late_nodes_are_reported_and_the_others_count():
    replies, _ = run({1: Node(0), 2: Node(None), 3: Node(0)}, seconds=0.1)
    assert [reply.message is None for reply in replies] == [False, True, False]
    assert replies[1] == Reply(2, None, "late: no report within 0.1 s")


def test_replies_behind_a_late_one_are_not_lost():
    n = 3 * HELD
    nodes = {1: Node(None), **{node: Node(0) for node in range(2, n)}}
    replies, _ = run(nodes, seconds=0.2)
    assert [reply.node for reply in replies if reply.message is None] == [1]


def test_a_node_that_restarted_is_not_waited_for():
    replies, _ = run({1: Node(0), 2: Node(None)}, is_lost=lambda node: node == 2)
    assert replies[1].problem == "its node restarted and lost the server's message"


def test_a_message_that_cannot_be_sent_has_its_turn():
    replies, _ = run({1: None, 2: Node(0)})
    assert [reply.node for reply in replies] == [1, 2]
    assert "could not be sent" in replies[0].problem


def test_messages_live_longer_than_flower_lets_them():
    _, grid = run({1: Node(0)})
    assert grid.sent[0].metadata.ttl == TTL_SECONDS > 12 * 3600


class Burst(Grid):
    """A grid that gives all requested replies in one pull."""

    most_asked = 0

    def pull_messages(self, numbers):
        listed = list(numbers)
        self.most_asked = max(self.most_asked, len(listed))
        return super().pull_messages(listed)


def test_no_more_replies_are_taken_at_once_than_may_be_held():
    grid = Burst({1: Node(3), **{node: Node(0) for node in range(2, 100)}})
    arrived, given = [], []
    for reply in replies_of(grid, messages(grid.nodes), Terms(on_arrival=arrived.append, pace=QUICK)):
        given.append(reply.node)
        assert len(arrived) - len(given) <= HELD
    assert grid.most_asked <= HELD
    assert given == sorted(grid.nodes)


def test_no_node_is_asked_after_the_time_is_over():
    replies, grid = run({node: Node(None) for node in range(1, 21)}, in_flight=2, seconds=0.05)
    assert len(grid.sent) == 2
    assert [reply.node for reply in replies] == [1, 2]


def test_other_work_gets_its_turn_while_nothing_arrives():
    grid = Grid({1: Node(3), 2: Node(0)})
    replies = list(exchange(grid, messages(grid.nodes), Terms(pace=QUICK)))
    assert replies.count(None) >= 3
    assert [reply.node for reply in replies if reply] == [1, 2]


def test_a_poll_waits_until_its_time_however_often_the_work_is_called():
    grid = Burst({1: Node(2)})
    pulls = []
    grid.pull_messages = lambda numbers: pulls.append(1) or Burst.pull_messages(grid, numbers)
    slow = Pace(poll_s=0.02, longest_poll_s=0.02)
    started = time.monotonic()
    replies = list(exchange(grid, messages(grid.nodes), Terms(pace=slow)))
    assert len(pulls) == 3  # two find nothing, with a pause after the second, and the third brings the reply
    assert time.monotonic() - started >= 0.02
    assert len(replies) > 100


def test_an_exchange_with_enough_replies_ends_and_names_the_nodes_that_are_late():
    got = []
    terms = Terms(has_enough=lambda: len(got) == 2, pace=QUICK)
    for reply in replies_of(grid := Grid({1: Node(None), 2: Node(), 3: Node()}), messages((1, 2, 3)), terms):
        got.append(reply)
    assert [(reply.node, reply.problem) for reply in got] == [(2, ""), (3, ""), (1, "late")]
    assert len(grid.out) == 1
