"""What a node of flwr 1.41 forgets where a run or one of its processes dies: it would wait for ever."""

from collections.abc import Callable
from typing import Any

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

NOT_RECEIVED = "the message did not arrive whole"

SOMETHING = 0
"""In place of a run's number, of which Flower's loop only asks whether there is one."""


class MendedState(InMemoryNodeState):
    """What the node keeps: its messages, and the tasks of the processes that answer them."""

    def has_answer(self) -> bool:
        """Whether an answer waits to be sent."""
        with self.lock_msg_store:
            return any(
                entry.message.metadata.reply_to_message_id and not entry.is_retrieved
                for entry in self.msg_store.values()
            )

    def drop(self, message: Message) -> None:
        """Forget a message that was not received whole, and end the process that was to answer it.

        The server, where it still waits, is told; but not where the run's app was refused.
        """
        run_id, number = message.metadata.run_id, message.metadata.message_id
        for task in self.get_tasks(run_ids=[run_id]):
            self.finish_task(task.task_id, SubStatus.FAILED, NOT_RECEIVED)
        self.delete_messages(message_ids=[number])
        if self.get_run(run_id) is not None:
            answer = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, NOT_RECEIVED), reply_to=message)
            answer.metadata.__dict__["_message_id"] = answer.object_id
            self.record_message_processing_start(number)
            self.record_message_processing_end(number)
            self._store_generated_message(answer)
            self.store_message(answer)

    def _on_task_tokens_expired(self, tasks: list[Task]) -> None:
        """Tell the server that a process died, also one that had not yet read its message."""
        runs = {task.run_id for task in tasks if task.type == TaskType.CLIENT_APP}
        with self.lock_msg_store:
            for entry in self.msg_store.values():
                if entry.message.metadata.run_id in runs and not entry.message.metadata.reply_to_message_id:
                    entry.is_retrieved = True
        super()._on_task_tokens_expired(tasks)


def mended(pull: Callable[..., int | None]) -> Callable[..., int | None]:
    """`pull`, by which Flower's loop gets the next message, and after which it sends what answers there are.

    Where a run dies while its message is received, Flower leaves the message behind, whose answer it then
    sends instead of the next one's: that one it would send after one message more, which may never come. And
    of a message that it could not receive it says nothing at all.
    """

    def pull_mended(
        *, state: MendedState, receive: Callable[[], tuple[Message, Any] | None], **others: Any
    ) -> int | None:
        received: list[Message] = []

        def note_received() -> tuple[Message, Any] | None:
            got = receive()
            received.extend([got[0]] if got else [])
            return got

        run_id = pull(state=state, receive=note_received, **others)
        if run_id is None:
            for message in received:
                state.drop(message)
            return SOMETHING if state.has_answer() else None
        return run_id

    return pull_mended
