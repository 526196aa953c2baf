"""A small model, options that train it in a second, and a workspace with finished runs."""

import csv
import shutil
from collections.abc import Callable, Iterator
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
    from flames_cli.stages.federate.stage import federate

    root = workspace()
    for strategy in RUNS:
        federate(_quick(root, strategy=strategy, local_epochs=5, lr=2e-2))
    return root


@pytest.fixture
def trained(finished_runs: Path, tmp_path: Path) -> Path:
    """A copy of it of the test's own; the newest run is the last of RUNS."""
    return Path(shutil.copytree(finished_runs, tmp_path / "trained"))


@pytest.fixture(scope="session")
def assert_same_state() -> Callable[[Any, Any], None]:
    """assert_same_state(found, expected): bit for bit, all that a checkpoint holds."""
    return _assert_same_state


def _assert_same_state(found: Any, expected: Any) -> None:
    assert found.round == expected.round
    ours, theirs = (
        {
            (part, *where): array.tobytes()
            for part in ("server", "personal", "optimiser_state", "styles")
            for where, array in _flat(getattr(state, part))
        }
        for state in (found, expected)
    )
    assert ours.keys() == theirs.keys()
    assert [where for where, data in theirs.items() if ours[where] != data] == []


def _flat(tree: Any, *where: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every array of nested dicts, with its way there."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, *where, name)
        else:
            yield (*where, name), value


@pytest.fixture(scope="session")
def timeless() -> Callable[[Any], list[dict[str, Any]]]:
    """timeless(records): those of rounds.jsonl without what no two runs share."""
    return _timeless


def _timeless(records: Any) -> list[dict[str, Any]]:
    kept = []
    for record in records:
        clients = [
            {key: value for key, value in entry.items() if key != "seconds"} for entry in record["clients"]
        ]
        rest = {key: value for key, value in record.items() if key not in ("seconds", "rss_mb")}
        kept.append({**rest, "clients": clients})
    return kept


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """run(workspace, "flames", compare="fedavg", …): evaluate that run on the CPU, without pictures."""
    from flames_cli.config import EvaluateConfig
    from flames_cli.stages.evaluate.stage import evaluate

    def evaluate_run(workspace: Path, name: str = "flames", **options: Any) -> Any:
        small = {"device": "cpu", "precision": "fp32", "overlays": False, "batch_size": 8}
        return evaluate(EvaluateConfig(workspace=workspace, run=name, **{**small, **options}))

    return evaluate_run


@pytest.fixture(scope="session")
def read_csv() -> Callable[[Path], list[dict[str, str]]]:
    """read_csv(path): its lines, by column."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read
