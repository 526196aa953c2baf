"""Files of those who mean harm, and how to tell that one did none."""

import os
from pathlib import Path

import pytest


class MakesFolder:
    """As a pickle, it makes a folder when it is read: the sign that code in a file has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Of a test of a long text or many bytes, a short name."""
    return f"{argname} {val[:20]!r}" if isinstance(val, str | bytes) and len(val) > 40 else None


@pytest.fixture
def trap(tmp_path) -> MakesFolder:
    return MakesFolder(tmp_path / "code-has-run")
