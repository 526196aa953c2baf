"""Seconds of a round on each engine, compared with Flower's and NVFlare's own rounds.

    python benchmarks/engines.py                               # all parts
    python benchmarks/engines.py --parts sites --rounds 6
    python benchmarks/engines.py --nvflare PYTHON              # with NVFlare, installed for that Python

`sites`: three real nodes with TLS on this machine's loopback interface (`flames deploy`), which train a U-Net
of 8 base channels on phantoms. The same run with `--engine inline` shows the training alone.
`constant`: five clients that return the received weights plus a constant, so that the figures show the
messages and the server but no training.

A figure is the median of the rounds after the first. The time of the first round, which includes the start of
the processes, and of the complete run are in columns of their own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from flames_cli.config import FederateConfig, PartitionConfig, PreprocessConfig
from flames_cli.demo_data import DEMO_DATA
from flames_cli.fed.events import Event, RoundDone
from flames_cli.flower.processes import free_port, stop
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.deployment.folders import Deployment
from flames_cli.store.workspace import partition_folder

PATIENTS = {"brats": 18, "busi": 16, "otu2d": 16}
"""Data sets of the sites, and their numbers of phantoms."""

READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Times:
    """Times of one run, in seconds."""

    first: float
    """From the command to the end of the first round."""
    rounds: list[float]
    """Each later round."""
    complete: float


def main() -> None:
    """Measure the chosen parts and print a line for each engine."""
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="flames-engines-") as folder:
        measure_sites(Path(folder), options)


def parse_options() -> argparse.Namespace:
    """Return the options: number of rounds, and the folder that keeps the logs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--keep", type=Path)
    return parser.parse_args()


def measure_sites(folder: Path, options: argparse.Namespace) -> None:
    """Measure the same run in one process and with real nodes, twice."""
    workspace = folder / "workspace"
    prepare(workspace)
    inline = run(workspace, "inline", options.rounds)
    print_line("inline", inline)
    with deployed(workspace, options.keep or folder) as deployment:
        print_line("superlink", run(workspace, "superlink", options.rounds, deployment))
        print_line("superlink again", run(workspace, "superlink", options.rounds, deployment))


def prepare(workspace: Path) -> None:
    """Preprocess and partition a few small images of each site."""
    for name, patients in PATIENTS.items():
        raw = DEMO_DATA[name](workspace / "raw" / name, patients, 0)
        preprocess(PreprocessConfig(workspace=workspace, raw={name: raw}, size=64, slice_half_width=2), name)
    partition(PartitionConfig(workspace=workspace, split=dict.fromkeys(PATIENTS, 1)))


@contextmanager
def deployed(workspace: Path, folder: Path) -> Iterator[Deployment]:
    """Provide a server and a node of each site, started with the commands that hospitals run."""
    deployment = init_deployment(folder / "deployment", "localhost", free_port(), list(PATIENTS), 30)
    started = []

    def start(name: str, *arguments: object) -> None:
        with (folder / f"{name}.out").open("wb") as output:
            command = [sys.executable, "-m", "flames_cli", "deploy", *map(str, arguments)]
            started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))

    try:
        start("server", "server", "--deployment", deployment.path, "--bind", "127.0.0.1")
        deadline = time.monotonic() + READY_SECONDS
        while "ready at" not in (folder / "server.out").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for name in PATIENTS:
            shard = partition_folder(workspace) / "shards" / f"{name}.h5"
            start(name, "node", "--site", deployment.site(name).path, "--shard", shard, "--device", "cpu")
        yield deployment
    finally:
        for process in reversed(started):
            stop(process)


def run(workspace: Path, engine: str, rounds: int, deployment: Deployment | None = None) -> Times:
    """Run a federation, and return its times."""
    began, marks = time.monotonic(), []

    def watch(event: Event) -> None:
        if isinstance(event, RoundDone):
            marks.append(time.monotonic() - began)

    small = {"batch_size": 8, "model": "unet", "model_options": {"base_channels": 8}, "device": "cpu"}
    real = {"deployment": deployment.path} if deployment else {}
    federate(
        FederateConfig(
            workspace=workspace, strategy="fedavg", rounds=rounds, engine=engine, fresh=True, **small, **real
        ),
        watch,
    )
    later = [b - a for a, b in pairwise(marks)]
    return Times(marks[0], later, time.monotonic() - began)


def print_line(name: str, times: Times) -> None:
    """Print the times of one run."""
    print(
        f"{name:20} {statistics.median(times.rounds):7.2f} s a round {times.first:7.2f} s first "
        f"{times.complete:7.2f} s complete {[round(x, 2) for x in times.rounds]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
