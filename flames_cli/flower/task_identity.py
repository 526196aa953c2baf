"""The identity of this process in Flower's messages."""

from flwr.supercore.task_identity import TaskIdentity


def send_messages_as(run_id: int, node_id: int) -> None:
    """Make node `node_id` the sender, in run `run_id`, of all messages that this process creates.

    Flower's own engines set the same process-wide identity.
    """
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id
