"""A workspace with enough clients for secure sums: three of MRI and three of US, with images of noise."""

from pathlib import Path

from flames_cli.config import PartitionConfig
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from tests.support.datasets import write_noise


def make_six(root: Path, size: int = 32) -> None:
    """Fill a workspace with the shards of brats-1 to brats-3 (MRI) and busi-1 to busi-3 (US)."""
    for name, modality, n in (("brats", "MRI", 12), ("busi", "US", 9)):
        members = {
            "client_train": [(f"{name}-p{number}", f"{name}-p{number}", 1) for number in range(n)],
            "client_val": [(f"{name}-v{number}", f"{name}-v{number}", 1) for number in range(6)],
            "client_test": [(f"{name}-t{number}", f"{name}-t{number}", 1) for number in range(6)],
            "server_test": [(f"{name}-s{number}", f"{name}-s{number}", 1) for number in range(2)],
        }
        info = SetInfo(
            name, modality, *(("brain", size, 4095) if modality == "MRI" else ("breast", size, 255))
        )
        write_noise(root / "preprocessed" / f"{name}.h5", members, info)
    partition(PartitionConfig(workspace=root, split={"brats": 3, "busi": 3}))
