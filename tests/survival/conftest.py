"""A workspace so small that a federation takes a fraction of a second, and processes that may die."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from tests.support.datasets import write_noise
from tests.support.tiny import Killer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """tiny(): a workspace of the caller's own: brats-1, brats-2 (MRI) and busi (US), 32×32 noise."""
    root = tmp_path_factory.mktemp("tiny") / "made"
    for name, modality, n in (("brats", "MRI", 12), ("busi", "US", 6)):
        members = {
            "client_train": [(f"{name}-p{number}", f"{name}-p{number}", 1) for number in range(n)],
            "client_val": [],
            "client_test": [(f"{name}-t{number}", f"{name}-t{number}", 1) for number in range(2)],
            "server_test": [(f"{name}-s{number}", f"{name}-s{number}", 1) for number in range(2)],
        }
        info = SetInfo(name, modality, "brain" if modality == "MRI" else "breast", 32, 255)
        write_noise(root / "preprocessed" / f"{name}.h5", members, info)
    partition(PartitionConfig(workspace=root, split={"brats": 2}))
    copies = tmp_path_factory.mktemp("tiny-copies")
    return lambda: Path(shutil.copytree(root, copies / str(len(list(copies.iterdir())))))


@pytest.fixture(scope="session")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    """One for all."""
    made = Killer(tmp_path_factory.mktemp("killer"))
    yield made
    made.close()
