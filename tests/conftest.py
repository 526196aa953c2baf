"""Fixtures that several folders of tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.readers.phantoms import PHANTOMS, draw_brats
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.datasets import find_shared

# Before torch is imported: its waiting threads would spin long, and nothing may be sent anywhere.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# On CI the same examples every time: a new one is found by whoever works on the code, not by who lands next.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

PAPER = ("brats", "busi", "otu2d")
"""The data sets of the FLAMES paper, which most tests federate."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: begun last, they would keep one process busy and leave the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other, and for whatever else this machine does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def phantom_raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Raw phantoms in every layout that is read, by data set: for reading only."""
    root = tmp_path_factory.mktemp("phantoms")
    small = {"brats": draw_brats(root / "brats", 15, seed=0, size=48, slices=12)}
    return {name: small.get(name) or draw(root / name, 16, 0) for name, draw in PHANTOMS.items()}


@pytest.fixture
def raw_copy(phantom_raw: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """raw_copy("busi"): phantoms that the test may damage."""
    return lambda dataset: Path(shutil.copytree(phantom_raw[dataset], tmp_path / "raw" / dataset))


@pytest.fixture(scope="session")
def workspace(phantom_raw: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """workspace(size=32, seed=0): a folder of the caller's own, all phantoms preprocessed and partitioned."""
    made: dict[tuple[int, int], Path] = {}

    def get(size: int = 32, seed: int = 0) -> Path:
        if (size, seed) not in made:
            root = made[size, seed] = tmp_path_factory.mktemp("made")
            for name in PAPER:
                preprocess(PreprocessConfig(workspace=root, raw=phantom_raw, size=size, seed=seed), name)
            partition(PartitionConfig(workspace=root, seed=seed))
        return Path(shutil.copytree(made[size, seed], tmp_path_factory.mktemp("workspace") / "workspace"))

    return get


@pytest.fixture(scope="session")
def salt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's salt: workspaces that share it give the same files."""
    path = tmp_path_factory.mktemp("site") / "salt"
    path.touch(mode=0o600)
    path.write_text("5a" * 32, encoding="ascii")
    return path


@pytest.fixture(scope="session")
def real_preprocessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the preprocessed real data of all three layouts, 48×48: for reading only."""
    raw = {
        "brats": find_shared("data/Task01_BrainTumour"),
        "busi": find_shared("data/busi"),
        "otu2d": find_shared("data/otu2d"),
    }
    root = tmp_path_factory.mktemp("real")
    for name in raw:
        preprocess(PreprocessConfig(workspace=root, raw=raw, size=48), name)
    return root / "preprocessed"
