"""Packing of a round's messages: a model that several clients receive is packed once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from flwr.app import Message, MessageType

from flames_cli.core.federated.candidates import Candidates, Offer
from flames_cli.core.federated.reports import State
from flames_cli.fed.messages import Profile, TrainTask, pack_task
from flames_cli.fed.plan import Plan
from flames_cli.fed.records import Packed, narrow_and_pack


class Packer:
    """Packs the tasks of a round that starts from `state`.

    A packed model is stored while several clients receive it; a model of one client is not stored. Flower's
    own strategies also send one record to all clients.
    """

    def __init__(self, plan: Plan, state: State, profiles: Iterable[Profile]) -> None:
        self._plan = plan
        self._server = state.server
        self._in_group = Counter(plan.model_group_of(profile) for profile in profiles)
        self._packed: dict[str, Packed] = {}
        self._state = state
        self._candidates: dict[str, Candidates] = {}

    def offer(self, task: TrainTask, profile: Profile) -> TrainTask:
        """Return `task` with the candidates among which the client chooses; unchanged if it has no choice."""
        offer = self.offer_to(profile)
        if offer is None:
            return task
        return replace(task, weights=offer.own, blend=offer.blend, prior=offer.prior)

    def offer_to(self, profile: Profile) -> Offer | None:
        """Return what the client chooses its model from; None if it has no choice."""
        return self._candidates_of(profile).offer(profile.client)

    def offers(self, profile: Profile) -> bool:
        """Return True if the client chooses its model."""
        return self._candidates_of(profile).offers(profile.client)

    def _candidates_of(self, profile: Profile) -> Candidates:
        group = self._plan.model_group_of(profile)
        if group not in self._candidates:
            self._candidates[group] = self._state.candidates(group)
        return self._candidates[group]

    def pack(self, task: TrainTask, profile: Profile, node_id: int, kind: str = MessageType.TRAIN) -> Message:
        """Return the message that sends `task` to the node of `profile`'s client."""
        return pack_task(task, node_id, kind, self._shared(task, profile))

    def _shared(self, task: TrainTask, profile: Profile) -> Packed | None:
        """Return the packed weights of `task`; None if no other client receives the same weights."""
        group = self._plan.model_group_of(profile)
        shared = self._server[group]
        if self._in_group[group] == 1 or any(one is not shared[name] for name, one in task.weights.items()):
            return None
        if group not in self._packed:
            self._packed[group] = narrow_and_pack(task.weights, task.request.wire_dtype)
        return self._packed[group]
