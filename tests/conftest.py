"""Fixtures that several folders of tests share."""

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.rng import derive_rng
from flames_cli.core.splits import SETS
from flames_cli.readers.phantoms import PHANTOMS, draw_brats
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import CaseInfo, SetInfo, Spool, encode_chunk
from flames_cli.store.h5 import SpooledCase, read_preprocessed_cases, write_preprocessed

# Before torch is imported: its waiting threads would spin long, and nothing may be sent anywhere.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# On CI the same examples every time: a new one is found by whoever works on the code, not by who lands next.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

PAPER = ("brats", "busi", "otu2d")
"""The data sets of the FLAMES paper, which most tests federate."""

SHARED = Path(__file__).parents[2] / "shared"


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
def shared() -> Callable[[str], Path]:
    """shared("data/busi"): a folder or file beside the project; skips the test where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"../shared/{name} is not here")
        return SHARED / name

    return find


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
def who_is() -> Callable[[Path], list[dict[str, str]]]:
    """who_is(workspace): its site's own tables, a row a source."""
    return _who_is


def _who_is(workspace: Path) -> list[dict[str, str]]:
    rows = []
    for table in sorted((workspace / "private").glob("*.csv")):
        with table.open(encoding="utf-8", newline="") as stream:
            rows += list(csv.DictReader(stream))
    return rows


@pytest.fixture(scope="session")
def revealed() -> Callable[[Path], dict[str, list[CaseInfo]]]:
    """revealed(a preprocessed file): the cases of every set, called as in the raw data: their patients, and
    themselves by their source's name (`volume-3/z077`)."""

    def reveal(path: Path) -> dict[str, list[CaseInfo]]:
        call = _Revealing(path)
        return {
            own: [
                replace(
                    case,
                    case=call.source(case.case),
                    patient=call.patients[case.patient],
                    split_unit=call.patients[case.split_unit],
                )
                for case in cases
            ]
            for own, cases in read_preprocessed_cases(path)[1].items()
        }

    return reveal


@pytest.fixture(scope="session")
def revealed_report() -> Callable[..., dict[str, Any]]:
    """revealed_report(a preprocessed file, its report): what was left out, called as in the raw data."""

    def reveal(path: Path, report: dict[str, Any]) -> dict[str, Any]:
        call = _Revealing(path)
        copies, near = report["copies_left_out"], report["near_copies_kept_together"]
        return {
            "skipped": [{**one, "name": call.source(one["name"])} for one in report["skipped"]],
            "bad": [call.source(name) for name in report["bad"]],
            "copies_left_out": [{key: call.source(name) for key, name in one.items()} for one in copies],
            "near_copies_kept_together": [[call.patients[one] for one in group] for group in near],
        }

    return reveal


class _Revealing:
    """Who is who in a preprocessed file."""

    def __init__(self, path: Path) -> None:
        rows = _who_is(path.parents[1])
        self.patients = {row["pseudonym"]: row["patient"] for row in rows}
        with (path.parents[1] / "private" / f"{path.stem}.csv").open(encoding="utf-8", newline="") as stream:
            own = list(csv.DictReader(stream))
        self._sources = {row["name"]: row["source"] for row in reversed(own)}

    def source(self, name: str) -> str:
        """A source's own name, with that of the slice."""
        volume, _, place = name.rpartition("/")
        return f"{self._sources[volume]}/{place}" if volume in self._sources else self._sources[name]


@pytest.fixture(scope="session")
def real_preprocessed(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the preprocessed real data of all three layouts, 48×48: for reading only."""
    raw = {
        "brats": shared("data/Task01_BrainTumour"),
        "busi": shared("data/busi"),
        "otu2d": shared("data/otu2d"),
    }
    root = tmp_path_factory.mktemp("real")
    for name in raw:
        preprocess(PreprocessConfig(workspace=root, raw=raw, size=48), name)
    return root / "preprocessed"


Drawn = tuple[CaseInfo, np.ndarray, np.ndarray]
Member = tuple[str, str, int] | tuple[str, str, int, str]
"""Patient, unit, images, and the site where there is one."""


@pytest.fixture(scope="session")
def preprocessed() -> Callable[..., list[Drawn]]:
    """preprocessed(path, {set: [(patient, unit, images[, site])]}, info): write noise, and return it."""
    return _write_noise


def _write_noise(path: Path, sets: Mapping[str, Sequence[Member]], info: SetInfo) -> list[Drawn]:
    drawn: list[Drawn] = []
    with Spool() as spool:
        spooled: dict[str, list[SpooledCase]] = {name: [] for name in SETS}
        for set_name, members in sets.items():
            for patient, unit, images, *site in members:
                for number in range(images):
                    one = _draw_case(info, set_name, patient, unit, number, *site)
                    drawn.append(one)
                    numbers = [spool.add(encode_chunk(pixels)) for pixels in one[1:]]
                    spooled[set_name].append(SpooledCase(one[0], *numbers))
        write_preprocessed(path, info, spooled, spool)
    return drawn


def _draw_case(info: SetInfo, set_name: str, patient: str, unit: str, number: int, site: str = "") -> Drawn:
    case = f"{set_name}/{patient}/{site}{number}"
    rng = derive_rng(0, info.dataset, case)
    image = rng.integers(0, info.max_value, info.pixel_shape, endpoint=True).astype(info.dtype)
    mask = (rng.random((info.size, info.size)) < 0.3).astype(np.uint8)
    size = measure_lesions(mask)
    lesions = {"n_lesions": size.n, "smallest_px": size.smallest_px, "smallest_box_px": size.smallest_box_px}
    known = CaseInfo(case, patient, unit, "", number, (1.0, 1.5), size.area_px, site, **lesions)
    return known, image, mask
