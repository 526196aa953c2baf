"""Who takes part: every node says what it is, and is refused by name where it does not fit."""

import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.errors import FlamesError
from flames_cli.fed.attendance import Attendance
from flames_cli.fed.events import ClientJoined, NodeRefused, OnEvent, Waiting
from flames_cli.fed.exchange import POLL_SECONDS, Reply, Terms, exchange, note_nothing
from flames_cli.fed.messages import PROTOCOL, Profile, error_reason, make_query, unpack_profile
from flames_cli.store.schema import SHARD

QUERY_SECONDS = 300.0
"""For a node to say what it is; it may still be busy with an earlier run."""

ASK_AGAIN_SECONDS = 10.0
"""Between two queries of a node that was refused: its owner may have mended what was wrong."""

LOOK_SECONDS = 5.0
"""Between two looks at which nodes have started anew."""

Members = list[tuple[int, Profile]]
"""Nodes with what they said of themselves, by client's name."""


class Roster:
    """The nodes of a federation: asked once who they are, called together before every round."""

    def __init__(
        self, grid: Grid, size: int, channels: int, attendance: Attendance, on_event: OnEvent
    ) -> None:
        self._grid = grid
        self._size = size
        self._channels = channels
        self._attendance = attendance
        self._on_event = on_event
        self._profiles: dict[int, Profile] = {}
        self._refused: dict[int, float] = {}
        self._out: dict[int, str] = {}
        self._started: dict[int, str] = {}
        self._seen: dict[int, str] = {}
        self._looked = 0.0

    @property
    def known(self) -> list[Profile]:
        """Every client that has joined so far, gone or not, by name."""
        return sorted(self._profiles.values(), key=lambda profile: profile.client)

    def gather(self, round_: int) -> Members:
        """The nodes to ask in `round_`, once enough are there.

        The first call waits for all that are expected, and makes do with enough of them.

        Raises:
            FlamesError: not enough have come in time; where nobody is waited for, also a node that cannot
                join.
        """
        ends = time.monotonic() + self._attendance.wait_seconds
        expected = 0 if self._profiles else self._attendance.expected
        told = ""
        while True:
            here = self._look_round()
            lacks = self._lacks(here, expected)
            if not lacks:
                return here
            if time.monotonic() >= ends:
                break
            if lacks != told:
                told = lacks
                self._on_event(Waiting(round_, lacks, ends - time.monotonic()))
            time.sleep(POLL_SECONDS)
        if lacks := self._lacks(here, expected=0):
            raise FlamesError(_explain(round_, lacks, self._attendance))
        return here

    def terms(self, on_arrival: Callable[[Message], None] = note_nothing) -> Terms:
        """How a round's messages go out, and what is noted of them."""
        return Terms(
            self._attendance.round_seconds,
            self._attendance.in_flight,
            self._note_sent,
            on_arrival,
            self.is_lost,
        )

    def settle(self, reply: Reply) -> None:
        """Take note that a node has replied, or lost its message; one that is late is still at it."""
        if reply.message is not None or self.is_lost(reply.node):
            self._out.pop(reply.node, None)

    def is_lost(self, node: int) -> bool:
        """Whether `node` has started anew since it was asked."""
        if not self._attendance.strict and time.monotonic() - self._looked > LOOK_SECONDS:
            self._online()
        return self._seen.get(node, "") != self._started.get(node, "")

    def _note_sent(self, node: int, number: str) -> None:
        self._out[node] = number
        self._started[node] = self._seen.get(node, "")

    def _online(self) -> Mapping[int, str]:
        """The nodes that can be reached, with their registered names."""
        nodes = list(self._grid.get_nodes())
        self._looked = time.monotonic()
        self._seen |= {node.node_id: node.last_activated_at for node in nodes}
        return {node.node_id: node.name for node in nodes}

    def _look_round(self) -> Members:
        """Who can be asked now: online, known and not busy; whoever is new is asked who it is."""
        online = self._online()
        self._free_late()
        now = time.monotonic()
        new = [
            node
            for node in sorted(online)
            if node not in self._profiles
            and now - self._refused.get(node, -ASK_AGAIN_SECONDS) >= ASK_AGAIN_SECONDS
        ]
        self._ask(new, online)
        here = [
            (node, self._profiles[node])
            for node in online
            if node in self._profiles and node not in self._out
        ]
        return sorted(here, key=lambda member: member[1].client)

    def _free_late(self) -> None:
        """Late reports of earlier rounds are thrown away; who sent them can be asked again."""
        numbers = {number: node for node, number in self._out.items()}
        for message in self._grid.pull_messages(numbers) if numbers else ():
            self._out.pop(numbers[message.metadata.reply_to_message_id], None)
        for node in [node for node in self._out if self.is_lost(node)]:
            del self._out[node]

    def _ask(self, nodes: Iterable[int], online: Mapping[int, str]) -> None:
        terms = Terms(seconds=None if self._attendance.strict else QUERY_SECONDS)
        for reply in exchange(self._grid, (make_query(node) for node in nodes), terms):
            client, problem = self._admit(reply, online)
            if not problem:
                self._refused.pop(reply.node, None)
            elif self._attendance.strict:
                raise FlamesError(f"{client} cannot join: {problem}")
            else:
                if reply.node not in self._refused:
                    self._on_event(NodeRefused(client, problem))
                self._refused[reply.node] = time.monotonic()

    def _admit(self, reply: Reply, online: Mapping[int, str]) -> tuple[str, str]:
        """Take a node in; its name, and why it cannot join."""
        registered = online.get(reply.node, "")
        name = f"node {registered or reply.node}"
        if reply.message is None:
            return name, reply.problem
        if reply.message.has_error():
            return name, error_reason(reply.message)
        try:
            profile = unpack_profile(reply.message)
        except (KeyError, TypeError) as error:
            return name, f"its profile cannot be read ({error}); install one version everywhere"
        taken = {other.client for node, other in self._profiles.items() if node in online}
        if problem := self._refuse(profile, registered, taken):
            return f"client {profile.client}", problem
        self._profiles = {node: one for node, one in self._profiles.items() if one.client != profile.client}
        self._profiles[reply.node] = profile
        self._on_event(ClientJoined(profile.client, profile.modality, profile.organ, profile.n_train))
        return profile.client, ""

    def _refuse(self, profile: Profile, registered: str, taken: Iterable[str]) -> str | None:
        if profile.protocol != PROTOCOL:
            return (
                f"it speaks protocol {profile.protocol}, this server {PROTOCOL}; "
                "install one version everywhere"
            )
        if profile.format != SHARD.version:
            return (
                f"its shard has version {profile.format} of {SHARD.name}, this server reads {SHARD.version}; "
                "install one version everywhere and run `flames partition` again"
            )
        if profile.size != self._size:
            return (
                f"its images are {profile.size}×{profile.size}, this federation's {self._size}×{self._size}; "
                "preprocess all with the same --size"
            )
        if profile.channels != self._channels:
            return (
                f"its images are of {profile.channels} channel(s), this federation's of {self._channels}; "
                "preprocess all with the same --channels"
            )
        if registered and registered != profile.client:
            return f"its key is registered as {registered}; start it with that site's folder"
        return "another node has that name" if profile.client in taken else None

    def _lacks(self, here: Members, expected: int) -> str:
        """What a round lacks, in words; empty where enough are there."""
        if not here:
            return "no client joined the federation; expected at least one"
        if len(here) < expected:
            return f"{len(here)} of {expected} expected clients can be asked"
        profiles = [profile for _, profile in here]
        return "; ".join(self._attendance.missing(profiles, self._profiles.values()))


def _explain(round_: int, lacks: str, attendance: Attendance) -> str:
    if attendance.strict:
        return lacks
    return (
        f"round {round_} cannot start after {attendance.wait_seconds:g} s: {lacks}; look with `flames deploy "
        "status`, and run the same command again to go on"
    )
