"""The server's side of secure sums: four exchanges with the clients of several groups, and their sums.

KEYS and SHARES come before the request that costs time (TRAIN), so that a client that is lost in its training
costs nothing but its vector. In UNMASK the clients open the sum of those whose vectors have arrived.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.sum_layout import SumLayout, Sums
from flames_cli.fed.events import ClientAsked, Noted, OnEvent, ReportReceived, ReportRejected
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.messages import Profile
from flames_cli.fed.records import message_bytes
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.secure.client import SESSION
from flames_cli.fed.secure.messages import (
    ADVERT,
    DEALING,
    DEALT,
    KEYS,
    OPENING,
    SHARES,
    UNMASK,
    Part,
    add_part,
    ask,
    only,
    read_part,
    unpack_masked,
)
from flames_cli.fed.secure.terms import SumTerms
from flames_cli.fed.waiting import Work
from flames_cli.secagg import Abandoned, Advert, BadMessage, Collector, Dealing, Opening, Session

GRACE_S = 10.0
"""Time that the server still waits for shares in UNMASK when it has enough to open all sums: a client that
answers a moment later is not late for the next round."""

MakeRequest = Callable[[int, Profile], Message]
"""make_request(node, profile) returns the request that makes a client compute its vector."""


class Group:
    """The secure sum of one model group in one round."""

    def __init__(
        self, name: str, round_: int, clients: Clients, terms: SumTerms, layout: SumLayout, bits: int
    ) -> None:
        self.name = name
        self.clients = clients
        self.terms = terms
        self.layout = layout
        self.session = Session.new(terms.to_text(), round_, name, bits)
        self.collector = Collector(self.session, layout.size)
        self.adverts: dict[str, Advert] = {}
        self.opened_before: dict[str, tuple[str, ...]] = {}
        """Clients with which each client opened the sum of this round before."""
        self.members: set[str] = {profile.client for _, profile in clients}
        """Clients that are asked next; empty if the sum is abandoned."""

    @property
    def id(self) -> str:
        """Identifier of the session in messages."""
        return self.session.id.hex()

    def part(self, blobs: Mapping[str, bytes], names: Iterable[str] = ()) -> Part:
        """Return the part of a message to a client of this group."""
        return Part(self.id, self.terms.run, blobs, tuple(names))

    def read_part(self, message: Message) -> Part:
        """Return the part of a client's reply.

        Raises:
            KeyError, TypeError, ValueError: it has none, or another session.
        """
        part = read_part(message)
        self.check(part.session)
        return part

    def check(self, session: str) -> None:
        """Raise ValueError if a reply is about another session."""
        if session != self.id:
            raise ValueError("it is about another session than the server's message")

    def close_adverts(self) -> dict[str, str]:
        """Fix the clients of the session; return the reason of each that is left out.

        If clients have opened this round before, before the server was stopped, they open it again only for
        the same clients.

        Raises:
            Abandoned: there are too few.
        """
        before = Counter(names for names in self.opened_before.values() if names)
        kept = set(before.most_common(1)[0][0]) if before else set(self.adverts)
        left_out = {}
        for client, advert in self.adverts.items():
            if client not in kept:
                left_out[client] = "the sum of this round was opened before without it, and is made again so"
                continue
            try:
                self.collector.add_advert(client, advert)
            except BadMessage as error:
                left_out[client] = str(error)
        self.members = {one.client for one in self.collector.close_adverts()}
        return left_out

    def open(self) -> Sums:
        """Return the sums.

        Raises:
            Abandoned: they cannot be opened.
        """
        words = self.collector.open()
        found = self.layout.read(lambda start, end: self.session.fixed_point.decode(words[start:end]), words)
        if not 0 < found.factor <= len(self.members) + 1e-3:
            raise Abandoned(
                f"the factors of {len(self.members)} clients have the sum {found.factor:g}, expected more "
                "than 0 and at most 1 for each; install the same version everywhere"
            )
        return replace(found, session=self.id)


@dataclass(slots=True)
class Outcome:
    """Result of an attempt at the sums of several groups."""

    sums: dict[str, tuple[tuple[str, ...], Sums]] = field(default_factory=dict)
    """Clients in the sum and the sums, by group; without the groups that were abandoned."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason of each client whose vector is in no sum."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time until the client's vector arrived."""
    bytes_down: int = 0
    bytes_up: int = 0
    opened_before: bool = False
    """True if clients have opened a sum of this round before, which they open again only as it was."""


def open_sums(
    grid: Grid,
    roster: Roster,
    groups: Iterable[Group],
    make_request: MakeRequest,
    round_: int,
    on_event: OnEvent,
    before_opening: Callable[[list[str]], None] | None = None,
) -> Work[Outcome]:
    """Return the sums of the vectors that clients compute, each of which no one but its client ever sees.

    A group whose sum cannot be opened is abandoned, and the reasons of its clients say why.

    Args:
        grid: the nodes.
        roster: the clients.
        groups: groups of clients, each with its session.
        make_request: makes the request for the vector, to which the clients' shares are added.
        round_: number of the round, for events.
        on_event: called with events.
        before_opening: called with the names of the groups before their clients are asked to open the sums.
    """
    attempt = _Attempt(grid, roster, list(groups), round_, on_event)
    yield from attempt.ask_keys()
    yield from attempt.ask_shares()
    yield from attempt.ask_vectors(make_request)
    if before_opening and (names := attempt.going_on):
        before_opening(names)
    yield from attempt.ask_openings()
    return attempt.outcome


class _Attempt:
    """The state of one attempt between its exchanges."""

    def __init__(
        self, grid: Grid, roster: Roster, groups: list[Group], round_: int, on_event: OnEvent
    ) -> None:
        self._grid = grid
        self._roster = roster
        self._groups = groups
        self._round = round_
        self._on_event = on_event
        self.outcome = Outcome()

    def ask_keys(self) -> Work[None]:
        """KEYS: each client begins a session and sends its public keys."""

        def request(group: Group, node: int, _: Profile) -> Message:
            return ask(KEYS, node, group.part({SESSION: group.session.to_bytes()}), str(self._round))

        def take(group: Group, client: str, message: Message) -> None:
            part = group.read_part(message)
            group.adverts[client] = Advert.from_bytes(only(part, ADVERT))
            group.opened_before[client] = tuple(sorted(part.names))
            self.outcome.opened_before |= bool(part.names)

        yield from self._exchange(request, take, "keys")
        for group in self._going_on():
            try:
                for client, reason in group.close_adverts().items():
                    self._fail(client, reason)
            except Abandoned as error:
                self._abandon(group, error)

    def ask_shares(self) -> Work[None]:
        """SHARES: each client gets all keys, and sends sealed shares of its secrets for the other clients."""

        def request(group: Group, node: int, _: Profile) -> Message:
            adverts = {name: one.to_bytes() for name, one in group.collector.roster.adverts.items()}
            return ask(SHARES, node, group.part(adverts), str(self._round))

        def take(group: Group, client: str, message: Message) -> None:
            dealing = Dealing.from_bytes(only(group.read_part(message), DEALING))
            group.collector.add_dealing(client, dealing)

        yield from self._exchange(request, take, "shares")
        self._close(lambda group: group.collector.close_dealings())

    def ask_vectors(self, make_request: MakeRequest) -> Work[None]:
        """TRAIN: each client gets its shares with its request, and sends its masked vector."""
        sent: dict[str, float] = {}

        def request(group: Group, node: int, profile: Profile) -> Message:
            message = make_request(node, profile)
            dealt = group.collector.dealt_for(profile.client)
            add_part(message.content, group.part({DEALT: dealt.to_bytes()}))
            sent[profile.client] = time.monotonic()
            self._on_event(ClientAsked(profile.client, self._round))
            return message

        def take(group: Group, client: str, message: Message) -> None:
            self.outcome.seconds[client] = time.monotonic() - sent[client]
            report = unpack_masked(message)
            group.check(report.session)
            if (report.client, report.round) != (client, self._round):
                raise ValueError(f"it reports as '{report.client}' on round {report.round}")
            group.collector.add(client, report.words)
            self._on_event(ReportReceived(client, self._round, {}))

        yield from self._exchange(request, take, "masked report")
        self._close(lambda group: group.collector.close_vectors())

    def ask_openings(self) -> Work[None]:
        """UNMASK: the clients in each sum send the shares that open it."""

        def request(group: Group, node: int, _: Profile) -> Message:
            return ask(UNMASK, node, group.part({}, sorted(group.members)), str(self._round))

        def take(group: Group, client: str, message: Message) -> None:
            opening = Opening.from_bytes(only(group.read_part(message), OPENING))
            group.collector.add_opening(client, opening)

        yield from self._exchange(request, take, "shares of a sum", self._has_enough, fails=False)
        for group in self._going_on():
            for client, what in sorted(group.collector.faults.items()):
                self._on_event(Noted(f"client {client} {what} in round {self._round}"))
            try:
                sums = group.open()
            except Abandoned as error:
                self._abandon(group, error)
            else:
                self.outcome.sums[group.name] = tuple(sorted(group.members)), sums

    @property
    def going_on(self) -> list[str]:
        """Names of the groups whose sums are not abandoned."""
        return [group.name for group in self._going_on()]

    def _has_enough(self) -> bool:
        return all(group.collector.can_open for group in self._going_on())

    def _going_on(self) -> list[Group]:
        return [group for group in self._groups if group.members]

    def _asked(self) -> Iterator[tuple[Group, int, Profile]]:
        """Yield the clients that are asked next, in the order of their names."""
        asked = [
            (group, node, profile)
            for group in self._going_on()
            for node, profile in group.clients
            if profile.client in group.members
        ]
        yield from sorted(asked, key=lambda one: one[2].client)

    def _exchange(
        self,
        request: Callable[[Group, int, Profile], Message],
        take: Callable[[Group, str, Message], None],
        what: str,
        has_enough: Callable[[], bool] | None = None,
        fails: bool = True,
    ) -> Work[None]:
        """Ask all clients that go on, and take their replies; a client without a usable one drops out.

        Args:
            request: makes the message to a client.
            take: takes a reply; any error that it raises is the client's fault.
            what: what a reply contains, for reasons.
            has_enough: if it returns True, the exchange ends when GRACE_S have passed.
            fails: False if a client that does not reply is still in the sum.
        """
        asked = list(self._asked())
        of_node = {node: (group, profile.client) for group, node, profile in asked}
        answered: set[int] = set()

        def requests() -> Iterator[Message]:
            for group, node, profile in asked:
                message = request(group, node, profile)
                self.outcome.bytes_down += message_bytes(message)
                yield message

        enough_since: float | None = None

        def is_over() -> bool:
            nonlocal enough_since
            if has_enough is None or not has_enough():
                return False
            enough_since = enough_since or time.monotonic()
            return time.monotonic() - enough_since > GRACE_S

        # The exchange ends, rather than this loop, so that the roster learns who is late.
        terms = replace(self._roster.terms(), has_enough=is_over if has_enough else None)
        for reply in exchange(self._grid, requests(), terms):
            if reply is None:
                yield None
                continue
            self._roster.settle(reply)
            answered.add(reply.node)
            group, client = of_node[reply.node]
            if reason := self._take(reply, group, client, take, what):
                if fails:
                    group.members.discard(client)
                    self._fail(client, reason)
                else:
                    note = f"client {client} gave no shares to open the sum of round {self._round}: {reason}"
                    self._on_event(Noted(note))
            del reply  # frees the memory while the next reply is awaited
        for node in of_node.keys() - answered:
            if fails:
                of_node[node][0].members.discard(of_node[node][1])
                self._fail(of_node[node][1], "the round ended before it could be asked")

    def _take(
        self,
        reply: Reply,
        group: Group,
        client: str,
        take: Callable[[Group, str, Message], None],
        what: str,
    ) -> str:
        """Return why a reply cannot be used; empty if it was taken."""
        message, reason = reply.read(lambda one: one, what)
        if message is None:
            return reason
        self.outcome.bytes_up += message_bytes(message)
        try:
            take(group, client, message)
        except BadMessage as error:
            return sanitise(str(error))
        except Exception as error:  # a node can send anything, so reading can fail with any error
            return sanitise(f"its {what} cannot be read ({type(error).__name__}: {error})")
        return ""

    def _close(self, close: Callable[[Group], tuple[str, ...]]) -> None:
        for group in self._going_on():
            try:
                group.members = set(close(group))
            except Abandoned as error:
                self._abandon(group, error)

    def _abandon(self, group: Group, error: Abandoned) -> None:
        """Give up the sum of a group: its model does not change in this round."""
        group.members = set()
        for _, profile in group.clients:
            if profile.client not in self.outcome.failed:
                self._fail(profile.client, f"the sum of its group was not opened: {error}")

    def _fail(self, client: str, reason: str) -> None:
        self.outcome.failed[client] = sanitise(reason)
        self._on_event(ReportRejected(client, self._round, self.outcome.failed[client]))
