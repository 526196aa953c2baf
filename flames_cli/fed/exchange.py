"""Messages out, replies in: in the order in which they were sent, and no more of them held than must be."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.fed.sanitise import error_reason, sanitise

POLL_SECONDS = 0.05
"""Before a look after something has come; twice as long after every look in vain."""
LONGEST_POLL_SECONDS = 2.0
"""Each look costs a SuperLink a query of its database."""

TTL_SECONDS = 7 * 86400.0
"""How long a message lives; Flower's own 12 hours would end a long local training."""

HELD = 8
"""Replies that may wait here for an earlier one; what comes after them waits at the SuperLink."""


Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a node: a message, or why there is none."""

    node: int
    message: Message | None = None
    problem: str = ""

    def read(self, unpack: Callable[[Message], Content], what: str) -> tuple[Content | None, str]:
        """What `unpack` makes of the message, or why there is nothing; `what` it should be, in words."""
        if self.message is None:
            return None, self.problem
        if self.message.has_error():
            return None, error_reason(self.message)
        try:
            return unpack(self.message), ""
        except Exception as error:  # what a node sends may fail to be read in any way at all
            return None, sanitise(f"its {what} cannot be read ({type(error).__name__}: {error})")


def note_nothing(*_: object) -> None:
    """Nobody counts."""


def _lose_nobody(_: int) -> bool:
    """All nodes are in this process."""
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """How long replies are waited for, and how many at once."""

    seconds: float | None = None
    """After which whoever has not replied is late; None: wait for all."""
    in_flight: int | None = None
    """Messages that may be out or held at once; None: all."""
    on_sent: Callable[[int, str], None] = note_nothing
    """Told of every message that is out: its node and number."""
    on_arrival: Callable[[int], None] = note_nothing
    """Told of every node whose reply has come, which may be before its turn."""
    is_lost: Callable[[int], bool] = _lose_nobody
    """Whether a node that has not replied never will, having started anew."""


PATIENT = Terms()


def exchange(grid: Grid, messages: Iterable[Message], terms: Terms = PATIENT) -> Iterator[Reply]:
    """Send each message, made when it is its turn; give every reply in the order of the messages.

    What is made of the replies then does not depend on who was first, so that every engine gives the same.
    """
    turns = _Turns(grid, terms)
    ends = None if terms.seconds is None else time.monotonic() + terms.seconds
    for message in messages:
        if _over(ends):
            break  # nobody is asked what can no longer count
        turns.push(message)
        yield from turns.due()
        while terms.in_flight is not None and len(turns) >= terms.in_flight and not _over(ends):
            yield from turns.wait()
    while len(turns) and not _over(ends):
        yield from turns.wait()
    yield from turns.close(f"late: no report within {terms.seconds:g} s" if terms.seconds else "late")


def send(grid: Grid, message: Message) -> str | None:
    """Send `message`; its number, None where the SuperLink did not take it."""
    message.metadata.ttl = TTL_SECONDS
    return next((number for number in grid.push_messages([message]) if number), None)


def _over(ends: float | None) -> bool:
    return ends is not None and time.monotonic() >= ends


class _Turns:
    """The messages that are out, in order, and the replies that came before their turn."""

    def __init__(self, grid: Grid, terms: Terms) -> None:
        self._grid = grid
        self._terms = terms
        self._nodes: dict[str, int] = {}
        self._held: dict[str, Reply] = {}
        self._pause = POLL_SECONDS

    def __len__(self) -> int:
        return len(self._nodes)

    def push(self, message: Message) -> None:
        """Send `message`; one that cannot be sent still has its turn."""
        node = message.metadata.dst_node_id
        number = send(self._grid, message)
        if number is None:
            number = f"unsent to {node}"
            self._held[number] = Reply(node, problem="its message could not be sent; see the SuperLink's log")
        else:
            self._terms.on_sent(node, number)
        self._nodes[number] = node

    def due(self) -> Iterator[Reply]:
        """Take in what has come; give what is next in order."""
        waiting = [number for number in self._nodes if number not in self._held]
        # The first in order is always asked for: what is held waits for it.
        wanted = waiting[: max(HELD - len(self._held), 1)]
        for message in self._grid.pull_messages(wanted) if wanted else ():
            number = message.metadata.reply_to_message_id
            if number not in wanted or number in self._held:
                continue  # a second reply, or to nothing that was asked
            self._terms.on_arrival(self._nodes[number])
            self._held[number] = Reply(self._nodes[number], message)
        while self._nodes and (first := next(iter(self._nodes))) in self._held:
            self._nodes.pop(first)
            yield self._held.pop(first)

    def wait(self) -> Iterator[Reply]:
        """As `due`; sleeps where nothing has come."""
        before = (len(self._nodes), len(self._held))
        yield from self.due()
        if before != (len(self._nodes), len(self._held)):
            self._pause = POLL_SECONDS
            return
        self._note_lost()
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_POLL_SECONDS)

    def _note_lost(self) -> None:
        for number, node in self._nodes.items():
            if number not in self._held and self._terms.is_lost(node):
                self._held[number] = Reply(node, problem="its node started anew and lost what it was asked")

    def close(self, problem: str) -> Iterator[Reply]:
        """Take what is there; whoever has not replied has `problem`."""
        while self._nodes:
            before = len(self._nodes)
            yield from self.due()
            if len(self._nodes) == before:
                yield Reply(self._nodes.pop(next(iter(self._nodes))), problem=problem)
