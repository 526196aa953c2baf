"""Processes that may be killed."""

from collections.abc import Iterator

import pytest

from tests.support.tiny import Killer


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """One process for all tests of the session."""
    made = Killer(tmp_path_factory.mktemp("killer"))
    yield made
    made.close()
