"""Fixtures that several folders of tests share."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.demo_data.layouts import draw_brats
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.datasets import find_shared
from tests.support.once import make_once
from tests.support.phantoms import PHANTOMS
from tests.support.tiny import make_tiny

# Before torch is imported: its waiting threads would spin long, and nothing may be sent anywhere.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# No example has a time limit: on a busy machine it would fail by chance.
settings.register_profile("flames", deadline=None)
# On CI the same examples every time: a new one is found by whoever works on the code, not by who lands next.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "flames")

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


WITH_CURVES = {"test_curves", "test_engines", "test_superlink"}
"""Modules whose tests look at rounds.png."""


@pytest.fixture(scope="module", autouse=True)
def _without_curves(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let runs end without their picture rounds.png, which takes a fifth of a small federation."""
    stage = sys.modules.get("flames_cli.stages.federate.stage")  # not imported for this: it imports torch
    if stage is None or request.path.stem in WITH_CURVES:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "draw_curves", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def phantom_raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Raw phantoms in every layout that is read, by data set: for reading only."""

    def make(root: Path) -> None:
        drawn = {name: draw(root / name, 16, 0) for name, draw in PHANTOMS.items() if name != "brats"}
        drawn["brats"] = draw_brats(root / "brats", 15, seed=0, size=48, slices=12)
        places = {name: str(path.relative_to(root)) for name, path in drawn.items()}
        (root / "places.json").write_text(json.dumps(places), encoding="utf-8")

    root = make_once(tmp_path_factory, "phantoms", make)
    places = json.loads((root / "places.json").read_text(encoding="utf-8"))
    return {name: root / places[name] for name in PHANTOMS}


@pytest.fixture
def raw_copy(phantom_raw: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """raw_copy("busi"): phantoms that the test may damage."""
    return lambda dataset: Path(shutil.copytree(phantom_raw[dataset], tmp_path / "raw" / dataset))


@pytest.fixture(scope="session")
def workspace(phantom_raw: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """workspace(size=32, seed=0): a workspace that the test may change, of the phantoms of PAPER."""

    def get(size: int = 32, seed: int = 0) -> Path:
        def make(root: Path) -> None:
            for name in PAPER:
                options = {"raw": phantom_raw, "size": size, "seed": seed, "cache": False}
                preprocess(PreprocessConfig(workspace=root, **options), name)
            partition(PartitionConfig(workspace=root, seed=seed))

        made = make_once(tmp_path_factory, f"workspace-{size}-{seed}", make)
        return Path(shutil.copytree(made, tmp_path_factory.mktemp("workspace") / "workspace"))

    return get


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny(size=32): a workspace that the test may change, of clients brats-1, brats-2 (MRI) and busi (US).

    The images are noise, and few: a round of a federation takes a fraction of a second.
    """

    def get(size: int = 32) -> Path:
        made = make_once(tmp_path_factory, f"tiny-{size}", lambda root: make_tiny(root, size))
        return Path(shutil.copytree(made, tmp_path_factory.mktemp("tiny") / "workspace"))

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

    def make(root: Path) -> None:
        for name in raw:
            preprocess(PreprocessConfig(workspace=root, raw=raw, size=48), name)

    return make_once(tmp_path_factory, "real", make) / "preprocessed"
