"""A federation so small that it takes a fraction of a second, in processes that may be killed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flames_cli.config import PartitionConfig
from flames_cli.stages.partition.stage import partition
from flames_cli.store.cases import SetInfo
from tests.support.datasets import write_noise

KILLING = Path(__file__).parents[1] / "survival" / "killing.py"

OPTIONS: dict[str, Any] = {
    "rounds": 4,
    "batch_size": 4,
    "lr": 0.02,
    "model": "unet",
    "model_options": {"base_channels": 2, "depth": 1},
    "device": "cpu",
}


def tiny_options(workspace: Path, **options: Any) -> dict[str, Any]:
    """Return the options of a federation that takes a moment."""
    return {**OPTIONS, "workspace": workspace, **options}


def make_tiny(root: Path, size: int = 32, brats: int = 2) -> None:
    """Fill a workspace with the shards of brats-1 to brats-`brats` (MRI) and busi (US): images of noise, and
    few."""
    for name, modality, n in (("brats", "MRI", 12), ("busi", "US", 8)):
        members = {
            "client_train": [(f"{name}-p{number}", f"{name}-p{number}", 1) for number in range(n)],
            "client_val": [],
            "client_test": [(f"{name}-t{number}", f"{name}-t{number}", 1) for number in range(brats)],
            "server_test": [(f"{name}-s{number}", f"{name}-s{number}", 1) for number in range(2)],
        }
        info = SetInfo(
            name, modality, *(("brain", size, 4095) if modality == "MRI" else ("breast", size, 255))
        )
        write_noise(root / "preprocessed" / f"{name}.h5", members, info)
    partition(PartitionConfig(workspace=root, split={"brats": brats}))


class Killer:
    """Runs stages in children of a process that has everything loaded; they may be killed."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(KILLING)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert json.loads(self._line()) == "ready"

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def run(self, stage: str, options: dict[str, Any], **how: Any) -> dict[str, Any]:
        """How a child ended: seconds, and `exit` or `signal`."""
        options = {**options, "workspace": str(options["workspace"])}
        assert self._process.stdin
        self._process.stdin.write(
            json.dumps({"stage": stage, "options": options, "log": str(self._log), **how}) + "\n"
        )
        self._process.stdin.flush()
        ended: dict[str, Any] = json.loads(self._line())
        return ended

    def federate(self, workspace: Path, **options: Any) -> float:
        """A federation that is left alone; the seconds it took."""
        ended = self.run("federate", tiny_options(workspace, **options))
        assert ended.get("exit") == 0, self.said()
        return float(ended["seconds"])

    def said(self) -> str:
        """What the last child wrote on stdout and stderr."""
        return self._log.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
