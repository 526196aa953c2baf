import pytest


@pytest.fixture(scope="session", autouse=True)
def _everywhere(one_thread):
    """Limit every test here to one thread."""
