"""Exchange of messages with the nodes: replies come in the order of the messages, and few are held."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.fed.pace import USUAL_PACE, Pace
from flames_cli.fed.sanitise import error_reason, sanitise
from flames_cli.fed.waiting import pause

TTL_SECONDS = 7 * 86400.0
"""Lifetime of a message; Flower's default of 12 hours would end a long local training."""

HELD = 8
"""Number of replies held here until an earlier one arrives; later replies wait at the SuperLink."""


Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a node, or the reason why there is none."""

    node: int
    message: Message | None = None
    problem: str = ""

    def read(self, unpack: Callable[[Message], Content], what: str) -> tuple[Content | None, str]:
        """Return (what `unpack` reads from the message, ""), or (None, the reason why there is nothing).

        `what` names the expected content in the reason, for example "report".
        """
        if self.message is None:
            return None, self.problem
        if self.message.has_error():
            return None, error_reason(self.message)
        try:
            return unpack(self.message), ""
        except Exception as error:  # a node can send anything, so reading can fail with any error
            return None, sanitise(f"its {what} cannot be read ({type(error).__name__}: {error})")


def note_nothing(*_: object) -> None:
    """Ignore the arguments."""


def _is_never_lost(_: int) -> bool:
    """Return False: the nodes run in this process."""
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """Time limit and number of simultaneous messages of an exchange, and its callbacks."""

    seconds: float | None = None
    """Time after which a node that has not replied is late; None: wait for all."""
    in_flight: int | None = None
    """Largest number of messages that are sent or held at the same time; None: all."""
    on_sent: Callable[[int, str], None] = note_nothing
    """Called with the node and the number of every message that was sent."""
    on_arrival: Callable[[int], None] = note_nothing
    """Called with the node of every reply when it arrives, which may be before its turn."""
    is_lost: Callable[[int], bool] = _is_never_lost
    """Returns True if a node that has not replied never will, because it has restarted."""
    has_enough: Callable[[], bool] | None = None
    """Returns True if the replies so far are enough; nodes that have not replied are late then. Replies are
    yielded in the order of their arrival, since one that waits for its turn cannot count. None: wait for all.
    """
    pace: Pace = USUAL_PACE


NO_LIMITS = Terms()


def exchange(grid: Grid, messages: Iterable[Message], terms: Terms = NO_LIMITS) -> Iterator[Reply | None]:
    """Send each message when it is its turn, and yield the replies in the order of the messages.

    Yields None whenever nothing has arrived; `Work` that reads the replies yields it on.

    The result of a round then does not depend on the order of arrival, so that all engines give the same.
    """
    turns = _Turns(grid, terms)
    ends = None if terms.seconds is None else time.monotonic() + terms.seconds
    for message in messages:
        if _over(ends):
            break  # a reply to this message would be late
        turns.push(message)
        yield from turns.due()
        while terms.in_flight is not None and len(turns) >= terms.in_flight and not _over(ends):
            yield from turns.wait()
    while len(turns) and not _over(ends) and not turns.has_enough():
        yield from turns.wait()
    limit = terms.seconds if _over(ends) else None
    yield from turns.close(f"late: no report within {limit:g} s" if limit else "late")


def send(grid: Grid, message: Message) -> str | None:
    """Send `message`, and return its number; None if the SuperLink did not accept it."""
    message.metadata.ttl = TTL_SECONDS
    return next((number for number in grid.push_messages([message]) if number), None)


def _over(ends: float | None) -> bool:
    return ends is not None and time.monotonic() >= ends


class _Turns:
    """The messages that were sent, in order, and the replies that arrived before their turn."""

    def __init__(self, grid: Grid, terms: Terms) -> None:
        self._grid = grid
        self._terms = terms
        self._nodes: dict[str, int] = {}
        self._held: dict[str, Reply] = {}
        self._last = time.monotonic()

    def __len__(self) -> int:
        return len(self._nodes)

    def has_enough(self) -> bool:
        """Return whether the replies that were yielded are enough, although others are missing."""
        return self._terms.has_enough is not None and self._terms.has_enough()

    def push(self, message: Message) -> None:
        """Send `message`; a message that cannot be sent still has its turn."""
        node = message.metadata.dst_node_id
        number = send(self._grid, message)
        if number is None:
            number = f"unsent to {node}"
            self._held[number] = Reply(node, problem="its message could not be sent; see the SuperLink's log")
        else:
            self._terms.on_sent(node, number)
        self._nodes[number] = node

    def due(self) -> Iterator[Reply]:
        """Fetch the replies that have arrived, and yield those whose turn it is."""
        unanswered = [number for number in self._nodes if number not in self._held]
        # The first number is always among them: the held replies wait for it.
        wanted = unanswered[: max(HELD - len(self._held), 1)]
        for message in self._grid.pull_messages(wanted) if wanted else ():
            number = message.metadata.reply_to_message_id
            if number not in wanted or number in self._held:
                continue  # a second reply, or a reply to a message that was not sent
            self._terms.on_arrival(self._nodes[number])
            self._held[number] = Reply(self._nodes[number], message)
        in_turn = self._held if self._terms.has_enough else self._nodes
        while (first := next(iter(in_turn), "")) in self._held:
            self._nodes.pop(first)
            yield self._held.pop(first)

    def wait(self) -> Iterator[Reply | None]:
        """Do the same as `due`; if nothing has arrived, yield None until it is time for the next poll."""
        before = (len(self._nodes), len(self._held))
        yield from self.due()
        if before != (len(self._nodes), len(self._held)):
            self._last = time.monotonic()
            return
        self._note_lost()
        yield from pause(self._terms.pace.pause(time.monotonic() - self._last))

    def _note_lost(self) -> None:
        for number, node in self._nodes.items():
            if number not in self._held and self._terms.is_lost(node):
                self._held[number] = Reply(node, problem="its node restarted and lost the server's message")

    def close(self, problem: str) -> Iterator[Reply]:
        """Yield the replies that have arrived, and `problem` for every node that has not replied."""
        while self._nodes:
            before = len(self._nodes)
            yield from self.due()
            if len(self._nodes) == before:
                yield Reply(self._nodes.pop(next(iter(self._nodes))), problem=problem)
