import pytest


@pytest.fixture(scope="session", autouse=True)
def _everywhere(one_thread):
    """Limit every test here to one thread."""


@pytest.fixture
def identity():
    """Give messages a sender: they take it from the identity of this process."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
