"""Who takes part: every node says what it is, and is refused by name where it does not fit."""

import time
from collections.abc import Callable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.errors import FlamesError
from flames_cli.fed.admission import Requirements
from flames_cli.fed.events import ClientJoined, NodeRejected, OnEvent, Waiting
from flames_cli.fed.exchange import Reply, Terms, note_nothing, send
from flames_cli.fed.messages import Profile, make_query, unpack_profile
from flames_cli.fed.participation import Participation
from flames_cli.fed.sanitise import error_reason, sanitise

QUERY_SECONDS = 300.0
"""Before a node that has not said what it is is asked again; it may still be busy with an earlier run."""

ASK_AGAIN_SECONDS = 10.0
"""Between two queries of a node that was refused: its owner may have mended what was wrong."""

POLL_SECONDS = 1.0
"""Between two looks at who is there."""

LOOK_SECONDS = 5.0
"""Between two looks at which nodes have started anew."""

Clients = list[tuple[int, Profile]]
"""Nodes with what they said of themselves, by client's name."""


class Roster:
    """The nodes of a federation: asked once who they are, called together before every round."""

    def __init__(
        self, grid: Grid, size: int, channels: int, participation: Participation, on_event: OnEvent
    ) -> None:
        self._grid = grid
        self._requirements = Requirements(size, channels)
        self._participation = participation
        self._on_event = on_event
        self._profiles: dict[int, Profile] = {}
        self._rejected: dict[int, str] = {}
        self._queries: dict[str, int] = {}
        self._ask_after: dict[int, float] = {}
        self._out: dict[int, str] = {}
        self._started: dict[int, str] = {}
        self._seen: dict[int, str] = {}
        self._looked = 0.0

    @property
    def known(self) -> list[Profile]:
        """Every client that has joined so far, gone or not, by name."""
        return sorted(self._profiles.values(), key=lambda profile: profile.client)

    def wait_for_clients(self, round_: int) -> Clients:
        """The nodes to ask in `round_`, once enough are there.

        The first call waits for all that are expected, and makes do with enough of them.

        Raises:
            FlamesError: not enough have come in time; where nobody is waited for, also a node that cannot
                join.
        """
        ends = time.monotonic() + self._participation.join_timeout_s
        expected = 0 if self._profiles else self._participation.expected_nodes
        told = ""
        while True:
            here = self._look_round()
            shortage = self._shortage(here, expected)
            if not shortage:
                return here
            if time.monotonic() >= ends and not self._all_must_answer:
                break
            if shortage != told:
                told = shortage
                self._on_event(Waiting(round_, shortage, ends - time.monotonic()))
            time.sleep(POLL_SECONDS)
        if shortage := self._shortage(here, expected=0):
            raise FlamesError(_explain(round_, shortage, self._participation))
        return here

    def available_clients(self) -> Clients:
        """Who can be asked, once all that have joined are back or the time to wait for them is over."""
        wanted = max(len(self._profiles), self._participation.expected_nodes)
        ends = time.monotonic() + self._participation.join_timeout_s
        while True:
            here = self._look_round()
            if len(here) >= wanted or time.monotonic() >= ends:
                return here
            time.sleep(POLL_SECONDS)

    def terms(self, on_arrival: Callable[[int], None] = note_nothing) -> Terms:
        """How a round's messages go out, and what is noted of them."""
        return Terms(
            self._participation.round_timeout_s,
            self._participation.in_flight,
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
        if not self._participation.all_must_join and time.monotonic() - self._looked > LOOK_SECONDS:
            self._online()
        return self._seen.get(node, "") != self._started.get(node, "")

    @property
    def _all_must_answer(self) -> bool:
        """Whether a node that was asked who it is has not answered, where all nodes are there by nature."""
        return self._participation.all_must_join and bool(self._queries)

    def _note_sent(self, node: int, number: str) -> None:
        self._out[node] = number
        self._started[node] = self._seen.get(node, "")

    def _online(self) -> Mapping[int, str]:
        """The nodes that can be reached, with their registered names."""
        nodes = list(self._grid.get_nodes())
        self._looked = time.monotonic()
        self._seen |= {node.node_id: node.last_activated_at for node in nodes}
        return {node.node_id: node.name for node in nodes}

    def _look_round(self) -> Clients:
        """Who can be asked now: online, known and not busy; whoever is new is asked who it is."""
        online = self._online()
        self._free_late()
        self._query_new(online)
        self._admit_answers(online)
        here = [
            (node, self._profiles[node])
            for node in online
            if node in self._profiles and node not in self._out
        ]
        return sorted(here, key=lambda client: client[1].client)

    def _query_new(self, online: Mapping[int, str]) -> None:
        """Ask who they are; nobody waits for the answer, which a broken node may never give."""
        now = time.monotonic()
        for node in sorted(online.keys() - self._profiles.keys()):
            if now < self._ask_after.get(node, 0.0):
                continue
            self._ask_after[node] = now + QUERY_SECONDS
            if number := send(self._grid, make_query(node)):
                self._queries[number] = node

    def _admit_answers(self, online: Mapping[int, str]) -> None:
        while self._queries and (answers := list(self._grid.pull_messages(list(self._queries)))):
            for answer in answers:
                node = self._queries.pop(answer.metadata.reply_to_message_id, None)
                if node is None:
                    continue  # it has answered before
                client, problem = self._admit(node, answer, online)
                if problem:
                    self._note_rejected(node, client, problem)

    def _note_rejected(self, node: int, client: str, problem: str) -> None:
        if self._participation.all_must_join:
            raise FlamesError(f"{client} cannot join: {problem}")
        self._ask_after[node] = time.monotonic() + ASK_AGAIN_SECONDS
        if self._rejected.get(node) != problem:
            self._rejected[node] = problem
            self._on_event(NodeRejected(client, problem))

    def _free_late(self) -> None:
        """Late reports of earlier rounds are thrown away; who sent them can be asked again."""
        numbers = {number: node for node, number in self._out.items()}
        for message in self._grid.pull_messages(numbers) if numbers else ():
            self._out.pop(numbers.get(message.metadata.reply_to_message_id, 0), None)
        for node in [node for node in self._out if self.is_lost(node)]:
            del self._out[node]

    def _admit(self, node: int, answer: Message, online: Mapping[int, str]) -> tuple[str, str]:
        """Take a node in; its name, and why it cannot join."""
        registered = online.get(node, "")
        name = f"node {registered or node}"
        if answer.has_error():
            return name, error_reason(answer)
        try:
            profile = unpack_profile(answer)
        except Exception as error:  # what a node sends may fail to be read in any way at all
            what = sanitise(f"{type(error).__name__}: {error}")
            return name, f"its profile cannot be read ({what}); install the same version everywhere"
        taken = {other.client for number, other in self._profiles.items() if number in online}
        if problem := self._requirements.rejection_reason(profile, registered, taken):
            return f"client {profile.client}", problem
        self._rejected.pop(node, None)
        self._profiles = {
            number: other for number, other in self._profiles.items() if other.client != profile.client
        }
        self._profiles[node] = profile
        self._on_event(ClientJoined(profile.client, profile.modality, profile.organ, profile.n_train))
        return profile.client, ""

    def _shortage(self, here: Clients, expected: int) -> str:
        """What a round is short of, in words; empty where enough are there."""
        if self._all_must_answer:
            return f"{len(self._queries)} of the nodes have not said what they are"
        if not here:
            return "no client joined the federation; expected at least one"
        if len(here) < expected:
            return f"{len(here)} of {expected} expected clients can be asked"
        profiles = [profile for _, profile in here]
        return "; ".join(self._participation.shortage(profiles, self._profiles.values()))


def _explain(round_: int, shortage: str, participation: Participation) -> str:
    if participation.all_must_join:
        return shortage
    return (
        f"round {round_} cannot start after {participation.join_timeout_s:g} s: {shortage}; look with "
        "`flames deploy status`, and run the same command again to go on"
    )
