"""State of a node in memory: its messages, and the tasks of the processes that answer them.

Flower's own state has gaps that let a node wait without end when a run or one of its processes ends at the
wrong moment; this one closes them, and it accepts no app but FLAMES' own.
"""

import threading
from collections.abc import Sequence

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, Status, SubStatus
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from flames_cli.flower.app_guard import check_fab, rejecting

NOT_RECEIVED = "the message was not received completely"


class GuardedState(InMemoryNodeState):
    """State of a node that accepts no app but FLAMES' own, and that answers every message."""

    def __init__(self, object_store: ObjectStore) -> None:
        super().__init__(object_store)
        self._finished = threading.Event()

    def store_fab(self, fab: Fab) -> str:
        """Store an app, from where the node's processes read the app that they run.

        Raises:
            RejectedRun: the app is not FLAMES' own.
        """
        with rejecting(run_id=0):
            check_fab(fab.content)
        return str(super().store_fab(fab))

    def replies(self) -> list[Message]:
        """Return the replies that wait to be sent."""
        with self.lock_msg_store:
            return [
                entry.message
                for entry in self.msg_store.values()
                if entry.message.metadata.reply_to_message_id and not entry.is_retrieved
            ]

    def wait_for_reply(self, seconds: float) -> bool:
        """Wait up to `seconds`, and return whether all tasks are finished, with a reply to send.

        A reply is complete when its task is finished: the process stores the reply, its objects, and then the
        end of the task.
        """
        if not self._is_answered():
            self._finished.wait(seconds)
            self._finished.clear()
        return self._is_answered()

    def _is_answered(self) -> bool:
        with self.lock_task_store:
            self._cleanup_expired_task_tokens_locked()
            finished = all(task.status.status == Status.FINISHED for task in self.task_store.values())
        return finished and bool(self.replies())

    def finish_task(self, task_id: int, sub_status: str, details: str) -> bool:
        """Finish a task; the message of one that failed without a reply gets an error as the reply."""
        finished = bool(super().finish_task(task_id, sub_status, details))
        if finished and sub_status == SubStatus.FAILED:
            self._reply_for(self.get_tasks(task_ids=[task_id]))
        self._finished.set()
        return finished

    def fail_tasks(self, reason: str) -> None:
        """Finish all tasks as failed, since the process that worked on them has ended."""
        for task in self.get_tasks(statuses=[Status.PENDING, Status.STARTING, Status.RUNNING]):
            self.finish_task(task.task_id, SubStatus.FAILED, reason)

    def discard(self, message: Message) -> None:
        """Delete a message that was not received completely, and end the process that was to answer it.

        The server gets an error as the reply, if this node has accepted the run's app.
        """
        run_id, message_id = message.metadata.run_id, message.metadata.message_id
        self.delete_messages(message_ids=[message_id])
        for task in self.get_tasks(run_ids=[run_id]):
            self.finish_task(task.task_id, SubStatus.FAILED, NOT_RECEIVED)
        if self.get_run(run_id) is not None:
            reply = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, NOT_RECEIVED), reply_to=message)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.record_message_processing_start(message_id)
            self.record_message_processing_end(message_id)
            self._store_generated_message(reply)
            self.store_message(reply)

    def _on_task_tokens_expired(self, tasks: list[Task]) -> None:
        """Store an error reply for each process that ended without its last message to the node."""
        self._reply_for(tasks)
        self._finished.set()

    def _reply_for(self, tasks: Sequence[Task]) -> None:
        """Store an error reply to each message of failed tasks, even if it had not been read yet."""
        runs = {task.run_id for task in tasks if task.type == TaskType.CLIENT_APP}
        with self.lock_msg_store:
            for entry in self.msg_store.values():
                message = entry.message.metadata
                if message.run_id in runs and not message.reply_to_message_id:
                    if not entry.is_retrieved:
                        self.record_message_processing_start(message.message_id)
                    entry.is_retrieved = True
        super()._on_task_tokens_expired(list(tasks))


class GuardedStateFactory(NodeStateFactory):
    """Factory of the one `GuardedState` that the node's loop and its HTTP interface share."""

    def state(self) -> GuardedState:
        """Return the state, created at the first call."""
        with self.lock:
            if not isinstance(self.state_instance, GuardedState):
                self.state_instance = GuardedState(self.objectstore_factory.store())
            return self.state_instance
