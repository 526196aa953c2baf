"""The trainings that clients of an asynchronous modality have begun, and the order in which they end."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.progress import Training
from flames_cli.core.federated.shelf import Load
from flames_cli.fed.exchange import Reply, send
from flames_cli.fed.messages import Profile
from flames_cli.fed.pace import Pace
from flames_cli.fed.roster import Roster
from flames_cli.fed.waiting import Work, pause

LOST = "its node restarted and lost the server's message"
ENDED = "the run ended before it reported"
UNSENT = "its message could not be sent; see the SuperLink's log"


@dataclass(slots=True)
class Sent:
    """A training that a client has begun, with the message that asks for it."""

    node: int
    profile: Profile
    training: Training
    start: Load
    """Function that returns the shared entries of the model with which it began."""
    number: str | None = None
    """Number of the message; None: it has not been sent."""
    sent_at: float = 0.0
    """Time at which the message was sent, by the monotonic clock."""
    n_bytes: int = 0
    """Size of the message's arrays."""

    @property
    def client(self) -> str:
        """Name of the client."""
        return self.profile.client


Arrival = tuple[Sent, Reply]


class Trainings:
    """The trainings on the way: with a virtual clock they end in the order of their virtual times, else in
    the order in which their reports arrive."""

    def __init__(self, grid: Grid, roster: Roster, ahead: int | None, pace: Pace) -> None:
        """Prepare an empty collection.

        `ahead` is the number of messages that are sent before it is their turn to end, at least 1; None: real
        nodes, to which all messages are sent.
        """
        self._grid = grid
        self._roster = roster
        self._ahead = ahead
        self._pace = pace
        self._open: dict[str, Sent] = {}
        self._last = time.monotonic()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, client: object) -> bool:
        return client in self._open

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._open.values())

    def begin(self, sent: Sent) -> None:
        """Add a training."""
        self._open[sent.client] = sent

    def due(self) -> Sequence[Sent]:
        """Return the trainings whose message should be sent now, in the order in which they end."""
        in_order = sorted(self, key=lambda one: (one.training.ends, one.client))
        return [one for one in in_order[: self._ahead] if one.number is None]

    def push(self, sent: Sent, message: Message) -> None:
        """Send the message of a training."""
        sent.sent_at = time.monotonic()
        sent.number = send(self._grid, message) or ""
        if sent.number:
            self._roster.note_sent(sent.node, sent.number)

    def next(self) -> Work[list[Arrival]]:
        """Wait until a report arrives, and return all that have arrived; with a virtual clock, the next one.

        A message that could not be sent, or was lost, arrives without a report. With real nodes, the result
        is empty when it is time to look whether other clients are present.
        """
        ends = time.monotonic() + self._pace.presence_s
        while True:
            if arrived := self._pull():
                self._last = time.monotonic()
                return arrived
            if self._ahead is None and (lost := self._find_lost()):
                return lost
            yield from pause(self._pace.pause(time.monotonic() - self._last))
            if self._ahead is None and time.monotonic() >= ends:
                return []

    def abandon(self) -> Work[None]:
        """Give up all trainings. Real nodes are busy until they reply, as after a round for which they are
        late; for simulated ones it waits, since what follows needs all of them."""
        open_ = [one for one in self if one.number]
        self._open.clear()
        while self._ahead and open_:
            replies = list(self._grid.pull_messages([one.number for one in open_ if one.number]))
            for reply in replies:
                number = reply.metadata.reply_to_message_id
                for sent in [one for one in open_ if one.number == number]:
                    self._roster.settle(Reply(sent.node, reply))
                    open_.remove(sent)
            if not replies:
                yield from pause(self._pace.poll_s)
        for sent in open_:
            self._roster.settle(Reply(sent.node, problem=ENDED))

    def _pull(self) -> list[Arrival]:
        unsent = [(one, Reply(one.node, problem=UNSENT)) for one in self if one.number == ""]
        wanted = {one.number: one for one in self._awaited() if one.number}
        found: list[Arrival] = []
        for message in self._grid.pull_messages(list(wanted)) if wanted else ():
            if sent := wanted.pop(message.metadata.reply_to_message_id, None):
                found.append((sent, Reply(sent.node, message)))
        found = sorted([*unsent, *found], key=lambda arrival: arrival[0].client)
        for sent, reply in found:
            del self._open[sent.client]
            self._roster.settle(reply)
        return found

    def _awaited(self) -> list[Sent]:
        if self._ahead is None:
            return list(self)
        return [min(self, key=lambda one: (one.training.ends, one.client))] if self._open else []

    def _find_lost(self) -> list[Arrival]:
        lost = [(one, Reply(one.node, problem=LOST)) for one in self if self._roster.is_lost(one.node)]
        for sent, reply in lost:
            del self._open[sent.client]
            self._roster.settle(reply)
        return lost
