"""Packing of a round's messages: a model that several clients receive is packed once."""

from collections import Counter
from collections.abc import Iterable, Mapping

from flwr.app import Message, MessageType

from flames_cli.arrays import Weights
from flames_cli.fed.messages import Profile, TrainTask, pack_task
from flames_cli.fed.plan import Plan
from flames_cli.fed.records import Packed, narrow_and_pack


class Packer:
    """Packs the tasks of a round, in which clients without weights of their own receive one of `models`.

    The models are by model group. The words of a secure sum, from which clients make their own models, are
    the same for all clients of its group and round. A packed model is stored while several clients receive
    it; a model of one client is not stored. Flower's own strategies also send one record to all clients.
    """

    def __init__(self, plan: Plan, models: Mapping[str, Weights], profiles: Iterable[Profile]) -> None:
        self._plan = plan
        self._models = models
        self._in_group = Counter(plan.model_group_of(profile) for profile in profiles)
        self._packed: dict[tuple[str, int], Packed] = {}

    def pack(self, task: TrainTask, profile: Profile, node_id: int, kind: str = MessageType.TRAIN) -> Message:
        """Return the message that sends `task` to the node of `profile`'s client."""
        return pack_task(task, node_id, kind, self._shared(task, profile))

    def _shared(self, task: TrainTask, profile: Profile) -> Packed | None:
        """Return the packed weights of `task`; None if no other client receives the same weights."""
        group = self._plan.model_group_of(profile)
        shared = self._models[group]
        if self._in_group[group] == 1:
            return None
        round_ = task.sum.round if task.sum else 0
        if not round_ and any(one is not shared[name] for name, one in task.weights.items()):
            return None
        if (group, round_) not in self._packed:
            self._packed[group, round_] = narrow_and_pack(task.weights, task.request.wire_dtype)
        return self._packed[group, round_]
