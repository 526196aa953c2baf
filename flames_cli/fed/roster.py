"""The roster: the nodes of a federation, each of which sends its profile and is admitted or rejected."""

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.errors import FlamesError
from flames_cli.fed.admission import Requirements
from flames_cli.fed.events import ClientJoined, NodeRejected, OnEvent, Waiting
from flames_cli.fed.exchange import Reply, Terms, note_nothing, send
from flames_cli.fed.messages import Profile, make_query, unpack_profile
from flames_cli.fed.pace import USUAL_PACE, Pace
from flames_cli.fed.participation import Participation
from flames_cli.fed.sanitise import error_reason, sanitise
from flames_cli.fed.waiting import Work, pause

Clients = list[tuple[int, Profile]]
"""Node number and profile of each client, sorted by the client's name."""

FindShortage = Callable[[Clients, int], str]
"""find_shortage(present, expected) returns what is missing among the clients that are present."""


class Roster:
    """The nodes of a federation: asked once for their profile, and called for every round."""

    def __init__(
        self,
        grid: Grid,
        requirements: Requirements,
        participation: Participation,
        on_event: OnEvent,
        pace: Pace = USUAL_PACE,
    ) -> None:
        self._grid = grid
        self._requirements = requirements
        self._participation = participation
        self._on_event = on_event
        self._pace = pace
        self._profiles: dict[int, Profile] = {}
        self._rejected: dict[int, str] = {}
        self._queries: dict[str, int] = {}
        self._ask_after: dict[int, float] = {}
        self._busy: dict[int, str] = {}
        self._late: set[int] = set()
        self._started: dict[int, str] = {}
        self._seen: dict[int, str] = {}
        self._looked = 0.0

    @property
    def known(self) -> list[Profile]:
        """Profiles of all clients that have joined so far, present or not, sorted by name."""
        return sorted(self._profiles.values(), key=lambda profile: profile.client)

    def wait_for_clients(self, round_: int, modality: str | None = None) -> Work[Clients]:
        """Wait until enough clients, of one modality or of all, are present for `round_`, and return them.

        The first call waits for all expected nodes, until its time is over; enough clients then suffice.

        Raises:
            FlamesError: too few clients were present in time; or all nodes must join and one may not.
        """
        expected = 0 if self._profiles else self._participation.expected_nodes
        if modality is None:
            return (yield from self._wait(round_, expected, self._shortage))
        return (yield from self._wait(round_, 0, partial(self._shortage_of, modality), modality))

    def wait_for_nodes(self, round_: int) -> Work[Clients]:
        """Wait for all expected nodes, whose modalities are not known before they join, until the time is
        over; return the clients that are present, at least one.

        Raises:
            FlamesError: no client was present in time; or all nodes must join and one may not.
        """
        expected = self._participation.expected_nodes
        return (yield from self._wait(round_, expected, self._shortage_of_nodes))

    def _wait(
        self, round_: int, expected: int, find_shortage: FindShortage, modality: str | None = None
    ) -> Work[Clients]:
        ends = time.monotonic() + self._participation.join_timeout_s
        reported = ""
        while True:
            present = [one for one in self._find_present() if modality is None or one[1].modality == modality]
            shortage = find_shortage(present, expected)
            if not shortage:
                return present
            if time.monotonic() >= ends and not self._all_must_answer:
                break
            if shortage != reported:
                reported = shortage
                self._on_event(Waiting(round_, shortage, ends - time.monotonic()))
            yield from pause(self._pace.presence_s)
        if shortage := find_shortage(present, 0):
            raise FlamesError(_explain(round_, shortage, self._participation))
        return present

    def available_clients(self) -> Work[Clients]:
        """Wait until all clients that have joined are present or the time is over; return those present.

        It waits for expected nodes that have not joined, but for none that was rejected.
        """
        ends = time.monotonic() + self._participation.join_timeout_s
        while True:
            present = self._find_present()
            expected = self._participation.expected_nodes - len(self._rejected)
            if len(present) >= max(len(self._profiles), expected) or time.monotonic() >= ends:
                return present
            yield from pause(self._pace.presence_s)

    def clients_called(self, names: Collection[str]) -> Work[Clients]:
        """Wait until the clients `names` are present or the time is over; return all that are present."""
        ends = time.monotonic() + self._participation.join_timeout_s
        while True:
            present = self._find_present()
            if {*names} <= {one.client for _, one in present} or time.monotonic() >= ends:
                return present
            yield from pause(self._pace.presence_s)

    def present(self) -> Clients:
        """Return the clients that can be asked now."""
        return self._find_present()

    def terms(self, on_arrival: Callable[[int], None] = note_nothing) -> Terms:
        """Return the terms of a round's exchange of messages."""
        return Terms(
            seconds=self._participation.round_timeout_s,
            in_flight=self._participation.in_flight,
            on_sent=self.note_sent,
            on_arrival=on_arrival,
            is_lost=self.is_lost,
            pace=self._pace,
        )

    def settle(self, reply: Reply) -> None:
        """Note that a node has replied or has lost its message; a node that is late is still busy."""
        if reply.message is not None or self.is_lost(reply.node):
            self._free(reply.node)
        elif reply.node in self._busy:
            self._late.add(reply.node)

    def is_lost(self, node: int) -> bool:
        """Return True if `node` has restarted since it was asked."""
        if not self._participation.all_must_join and time.monotonic() - self._looked > self._pace.restart_s:
            self._find_online()
        return self._seen.get(node, "") != self._started.get(node, "")

    @property
    def _all_must_answer(self) -> bool:
        """True if all nodes must join and one of them has not sent its profile yet."""
        return self._participation.all_must_join and bool(self._queries)

    def note_sent(self, node: int, number: str) -> None:
        """Note that the message with this number was sent to a node, which is busy until it replies."""
        self._busy[node] = number
        self._started[node] = self._seen.get(node, "")

    def _find_online(self) -> Mapping[int, str]:
        """Return the nodes that can be reached, with their registered names."""
        nodes = list(self._grid.get_nodes())
        self._looked = time.monotonic()
        self._seen |= {node.node_id: node.last_activated_at for node in nodes}
        return {node.node_id: node.name for node in nodes}

    def _find_present(self) -> Clients:
        """Return the clients that can be asked now: online, admitted and not busy. Ask new nodes to join."""
        online = self._find_online()
        self._free_late()
        self._query_new(online)
        self._admit_answers(online)
        present = [
            (node, self._profiles[node])
            for node in online
            if node in self._profiles and node not in self._busy
        ]
        return sorted(present, key=lambda client: client[1].client)

    def _query_new(self, online: Mapping[int, str]) -> None:
        """Ask new nodes for their profile, without waiting: a broken node may never answer."""
        now = time.monotonic()
        for node in sorted(online.keys() - self._profiles.keys()):
            if now < self._ask_after.get(node, 0.0):
                continue
            self._ask_after[node] = now + self._pace.query_s
            if number := send(self._grid, make_query(node)):
                self._queries[number] = node

    def _admit_answers(self, online: Mapping[int, str]) -> None:
        while self._queries and (answers := list(self._grid.pull_messages(list(self._queries)))):
            for answer in answers:
                node = self._queries.pop(answer.metadata.reply_to_message_id, None)
                if node is None:
                    continue  # a second answer
                client, problem = self._admit(node, answer, online)
                if problem:
                    self._note_rejected(node, client, problem)

    def _note_rejected(self, node: int, client: str, problem: str) -> None:
        if self._participation.all_must_join:
            raise FlamesError(f"{client} cannot join: {problem}")
        self._ask_after[node] = time.monotonic() + self._pace.ask_again_s
        if self._rejected.get(node) != problem:
            self._rejected[node] = problem
            self._on_event(NodeRejected(client, problem))

    def _free_late(self) -> None:
        """Discard late reports of earlier rounds; their clients can be asked again.

        A node that is not late has a message of other work, which waits for its reply.
        """
        numbers = {self._busy[node]: node for node in self._late}
        for message in self._grid.pull_messages(numbers) if numbers else ():
            self._free(numbers.get(message.metadata.reply_to_message_id, 0))
        for node in [node for node in self._late if self.is_lost(node)]:
            self._free(node)

    def _free(self, node: int) -> None:
        self._busy.pop(node, None)
        self._late.discard(node)

    def _admit(self, node: int, answer: Message, online: Mapping[int, str]) -> tuple[str, str]:
        """Admit a node; return its name, and why it may not join (empty if it may)."""
        registered = online.get(node, "")
        name = f"node {registered or node}"
        if answer.has_error():
            return name, error_reason(answer)
        try:
            profile = unpack_profile(answer)
        except Exception as error:  # a node can send anything, so reading can fail with any error
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

    def _shortage(self, present: Clients, expected: int) -> str:
        """Return what a round is short of; empty if there are enough clients."""
        if shortage := self._shortage_of_nodes(present, expected):
            return shortage
        profiles = [profile for _, profile in present]
        return "; ".join(self._participation.shortage(profiles, self._profiles.values()))

    def _shortage_of(self, modality: str, present: Clients, _: int) -> str:
        """Return what a round of one modality is short of; empty if there are enough clients."""
        need = max(self._participation.need_of(modality), 1)
        if len(present) >= need:
            return ""
        return f"{need} of {modality} are needed, {len(present)} can be asked"

    def _shortage_of_nodes(self, present: Clients, expected: int) -> str:
        """Return which nodes are missing; empty if there are enough."""
        if self._all_must_answer:
            return f"{len(self._queries)} of the nodes have not sent their profile"
        if not present:
            return "no client joined the federation; expected at least one"
        if len(present) < expected:
            return f"{len(present)} of {expected} expected clients can be asked"
        return ""


def _explain(round_: int, shortage: str, participation: Participation) -> str:
    if participation.all_must_join:
        return shortage
    return (
        f"round {round_} cannot start after {participation.join_timeout_s:g} s: {shortage}; look at the "
        "nodes with `flames deploy status`, and run the same command again to continue"
    )
