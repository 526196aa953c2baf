"""This machine and the versions of its libraries, as a run records them: no name of a host or of a user."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from flames_cli import __version__
from flames_cli.core.cores import available_cores

GIB = 2**30
PACKAGES = ("flwr", "numpy")
"""Libraries whose versions are recorded, besides torch, whose own text also names its build."""


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, threads of torch, memory in GiB, accelerators, system and versions."""
    return {
        "cpu": _processor(),
        "cores": min(psutil.cpu_count(logical=False) or available_cores(), available_cores()),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "gpus": _accelerators(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def find_versions() -> dict[str, str]:
    """Return the versions of FLAMES, Python, torch and numpy on this machine."""
    packages = {name: metadata.version(name) for name in ("torch", "numpy")}
    return {"flames": __version__, "python": platform.python_version(), **packages}


def _processor() -> str:
    """Return the model of the processor; its architecture where the system does not say more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _accelerators() -> list[str]:
    """Return each accelerator with its memory, such as `NVIDIA H100, 79 GiB`."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(index) for index in range(count)]
    names = [f"{one.name}, {one.total_memory / GIB:.0f} GiB" for one in found]
    return names or (["Apple GPU (MPS)"] if torch.backends.mps.is_available() else [])
