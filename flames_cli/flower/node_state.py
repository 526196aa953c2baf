"""State of a node in memory: its messages, and the tasks of the processes that answer them.

Flower's own state has gaps that let a node wait without end when a run or one of its processes ends at the
wrong moment; this one closes them, and it accepts no app but FLAMES' own.
"""

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supernode.nodestate import NodeStateFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from flames_cli.flower.app_guard import check_fab, rejecting

NOT_RECEIVED = "the message was not received completely"


class GuardedState(InMemoryNodeState):
    """State of a node that accepts no app but FLAMES' own, and that answers every message."""

    def store_fab(self, fab: Fab) -> str:
        """Store an app, from where the node's processes read the app that they run.

        Raises:
            RejectedRun: the app is not FLAMES' own.
        """
        with rejecting(run_id=0):
            check_fab(fab.content)
        return str(super().store_fab(fab))

    def has_reply(self) -> bool:
        """Return whether a reply waits to be sent."""
        with self.lock_msg_store:
            return any(
                entry.message.metadata.reply_to_message_id and not entry.is_retrieved
                for entry in self.msg_store.values()
            )

    def discard(self, message: Message) -> None:
        """Delete a message that was not received completely, and end the process that was to answer it.

        The server gets an error as the reply, if this node has accepted the run's app.
        """
        run_id, message_id = message.metadata.run_id, message.metadata.message_id
        for task in self.get_tasks(run_ids=[run_id]):
            self.finish_task(task.task_id, SubStatus.FAILED, NOT_RECEIVED)
        self.delete_messages(message_ids=[message_id])
        if self.get_run(run_id) is not None:
            reply = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, NOT_RECEIVED), reply_to=message)
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.record_message_processing_start(message_id)
            self.record_message_processing_end(message_id)
            self._store_generated_message(reply)
            self.store_message(reply)

    def _on_task_tokens_expired(self, tasks: list[Task]) -> None:
        """Store an error reply for each process that ended, even if it had not read its message yet."""
        runs = {task.run_id for task in tasks if task.type == TaskType.CLIENT_APP}
        with self.lock_msg_store:
            for entry in self.msg_store.values():
                if entry.message.metadata.run_id in runs and not entry.message.metadata.reply_to_message_id:
                    entry.is_retrieved = True
        super()._on_task_tokens_expired(tasks)


class GuardedStateFactory(NodeStateFactory):
    """Factory of the one `GuardedState` that the node's loop and its HTTP interface share."""

    def state(self) -> GuardedState:
        """Return the state, created at the first call."""
        with self.lock:
            if not isinstance(self.state_instance, GuardedState):
                self.state_instance = GuardedState(self.objectstore_factory.store())
            return self.state_instance
