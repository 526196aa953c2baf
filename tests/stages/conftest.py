"""Workspaces with finished runs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stages import federate_config

RUNS = ("flames", "fedavg", "local")


@pytest.fixture(scope="session", autouse=True)
def _everywhere(one_thread):
    """Limit every test here to one thread."""


@pytest.fixture(scope="session")
def finished_runs(workspace: Callable[..., Path]) -> Path:
    """A workspace with a run of each strategy of RUNS, trained long enough to differ: for reading only."""
    from flames_cli.stages.federate.stage import federate

    root = workspace()
    for strategy in RUNS:
        federate(federate_config(root, strategy=strategy, local_epochs=5, lr=2e-2))
    return root


@pytest.fixture
def trained(finished_runs: Path, tmp_path: Path) -> Path:
    """A copy of `finished_runs` that the test may change; the newest run is the last of RUNS."""
    return Path(shutil.copytree(finished_runs, tmp_path / "trained"))
