"""A small model, options that train it in a second, and a workspace with finished runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL: dict[str, int | float] = {"base_channels": 4, "depth": 2}
RUNS = ("flames", "fedavg", "local")


@pytest.fixture(scope="session", autouse=True)
def _everywhere(one_thread):
    """Every test here."""


@pytest.fixture(scope="session")
def quick() -> Callable[..., Any]:
    """quick(workspace, rounds=2, …): options of a federation of the small model on the CPU."""
    return _quick


def _quick(workspace: Path, **options: Any) -> Any:
    from flames_cli.config import FederateConfig

    small = {
        "rounds": 2,
        "batch_size": 8,
        "lr": 1e-2,
        "model": "unet",
        "model_options": MODEL,
        "device": "cpu",
    }
    return FederateConfig(workspace=workspace, **{**small, **options})


@pytest.fixture(scope="session")
def finished_runs(workspace: Callable[..., Path]) -> Path:
    """A workspace with a run of each strategy of RUNS, trained long enough to differ: for reading only."""
    from flames_cli.stages.federate import federate

    root = workspace()
    for strategy in RUNS:
        federate(_quick(root, strategy=strategy, local_epochs=5, batch_size=4, lr=2e-2))
    return root


@pytest.fixture
def trained(finished_runs: Path, tmp_path: Path) -> Path:
    """A copy of it of the test's own; the newest run is the last of RUNS."""
    return Path(shutil.copytree(finished_runs, tmp_path / "trained"))
