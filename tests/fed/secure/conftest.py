import os

import pytest


@pytest.fixture(scope="package", autouse=True)
def _not_for_power_cuts():
    """Let clients store their sessions without waiting for the disk, which takes most of a test's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
