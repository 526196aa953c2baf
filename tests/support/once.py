"""Folders that take long to make, made once for all processes of a test run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flames_cli.store.files.locks import in_turn


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make(folder)` filled, for reading only; pytest-xdist's processes share it."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / f"once-{name}"
    with in_turn(folder):
        if not folder.exists():
            made = base / f"making-{name}"
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder
