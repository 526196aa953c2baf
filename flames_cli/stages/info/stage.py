"""`flames info`: installed versions, this machine, and the content of the workspace."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.core.cores import available_cores
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.devices import describe_devices
from flames_cli.learn.models import MODELS
from flames_cli.readers import READERS
from flames_cli.stages.info.plugins import count_plugins
from flames_cli.stages.models.listing import list_names
from flames_cli.store.runs import list_runs
from flames_cli.store.workspace import list_partitions

PACKAGES = (
    "torch",
    "torchvision",
    "flwr",
    "numpy",
    "h5py",
    "safetensors",
    "nibabel",
    "opencv-python-headless",
    "dp-accounting",
)


def info(workspace: Path) -> dict[str, Any]:
    """Return versions, devices, known names, and the files of `workspace`."""
    return {
        "flames": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpus": available_cores(),
        "devices": describe_devices(),
        "datasets": {name: _describe_reader(name) for name in READERS},
        "models": sorted(MODELS),
        "strategies": {name: ALGORITHMS.summary(name) for name in ALGORITHMS},
        "plugins": count_plugins(),
        "workspace": {
            "path": str(workspace),
            "exists": workspace.is_dir(),
            "preprocessed": sorted(path.stem for path in workspace.glob("preprocessed/*.h5")),
            "partitions": list_partitions(workspace),
            "runs": [path.name for path in list_runs(workspace)],
            "models": list_names(workspace),
        },
    }


def _describe_reader(name: str) -> str:
    if name not in READERS.builtin:
        return READERS.summary(name)
    reader = READERS[name]
    return f"{reader.organ} {reader.modality}" if reader.modality else "your own, listed in a CSV"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
