"""A round's messages to clients; a model that several of them are sent is packed once."""

from collections import Counter
from collections.abc import Iterable

from flwr.app import Message, MessageType

from flames_cli.core.federated.reports import State
from flames_cli.fed.messages import Profile, TrainTask, pack_task
from flames_cli.fed.plan import Plan
from flames_cli.fed.records import Packed, narrow_and_pack


class Packer:
    """Packs the tasks of one round, which starts from `state`.

    Flower's own strategies send one record to all in the same way. A model of one client alone is not kept.
    """

    def __init__(self, plan: Plan, state: State, profiles: Iterable[Profile]) -> None:
        self._plan = plan
        self._personal = state.personal.keys()
        self._in_group = Counter(plan.model_group_of(profile) for profile in profiles)
        self._packed: dict[str, Packed] = {}

    def pack(self, task: TrainTask, profile: Profile, node_id: int, kind: str = MessageType.TRAIN) -> Message:
        """The message that sends `task` to the node of `profile`'s client."""
        return pack_task(task, node_id, kind, self._shared(task, profile))

    def _shared(self, task: TrainTask, profile: Profile) -> Packed | None:
        """The weights of `task`, where others are sent the same."""
        group = self._plan.model_group_of(profile)
        if profile.client in self._personal or self._in_group[group] == 1:
            return None
        if group not in self._packed:
            self._packed[group] = narrow_and_pack(task.weights, task.request.wire_dtype)
        return self._packed[group]
