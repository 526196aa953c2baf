"""Seconds of a round by each engine, beside Flower's own simulation and NVFlare's.

    OMP_NUM_THREADS=1 python benchmarks/engines.py
    OMP_NUM_THREADS=1 python benchmarks/engines.py --parts sites --rounds 8
    OMP_NUM_THREADS=1 python benchmarks/engines.py --nvflare PYTHON     # a Python that has NVFlare

`sites`: three real nodes with TLS on this machine's loopback interface, started by the commands of hospitals
(`flames deploy`), train a U-Net of 8 base channels on phantoms of 64×64. The same run with `--engine inline`
shows the training alone, of one client after the other. `secure` is the same run with secure aggregation.

`constant`: clients return the received weights plus a constant, so that the figures show the messages and the
server but no training. FLAMES' server and Flower's own FedAvg run in one process, and over ray; NVFlare's
FedAvg runs in NVFlare's simulator, if --nvflare names a Python that has it.

A round's time is the median of the rounds after the first. The first one includes the start of processes. The
processor time of a round, of all processes together, changes less with other load on the machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import tomli_w

from flames_cli.config import FederateConfig, PartitionConfig, PreprocessConfig
from flames_cli.demo_data import DEMO_DATA
from flames_cli.fed.events import Event, RoundDone
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.flower.health import wait_until_healthy
from flames_cli.flower.processes import child_environment, descendants, free_port, start, stop
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.deployment.folders import Deployment
from flames_cli.store.workspace import partition_folder

PARTS = ("sites", "constant")
PATIENTS = {"brats": 18, "busi": 16, "otu2d": 16}
"""Data sets of the sites, and their numbers of phantoms."""

HERE = Path(__file__).parent
DAYS = 30
"""Number of days for which the deployment's certificates are valid."""
WAIT_SECONDS = 600.0
"""Longest time that a server or a run may take."""

APP: dict[str, Any] = {
    "project": {"name": "engines", "version": "0.1.0"},
    "tool": {
        "flwr": {
            "app": {
                "publisher": "flames",
                "components": {"serverapp": "engines_app:server_app", "clientapp": "engines_app:client_app"},
                "config": dict.fromkeys(("arm", "clients", "megabytes", "rounds", "out"), ""),
            }
        }
    },
}
"""Description of the app for Flower; its modules are found by PYTHONPATH."""


def main() -> None:
    """Measure the chosen parts, and print a line for each engine."""
    options = parse_options()
    print(f"{'':10}{'':28}{'a round':>10}{'ratio':>8}{'first round':>14}{'processors':>13}")
    with tempfile.TemporaryDirectory(prefix="flames-engines-") as folder:
        if "sites" in options.parts:
            measure_sites(Path(folder), options.rounds, options.size)
        if "constant" in options.parts:
            measure_constant(Path(folder), options)


def parse_options() -> argparse.Namespace:
    """Return the options: parts, rounds, the model's size, and the Python of NVFlare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the first")
    parser.add_argument("--size", type=int, default=64, help="width of the sites' images in pixels")
    parser.add_argument("--clients", type=int, default=5, help="clients that add a constant")
    parser.add_argument("--megabytes", type=float, default=54, help="size of their model")
    parser.add_argument("--nvflare", help="a Python that has NVFlare")
    parser.add_argument("--toy", action="store_true", help="one round of 0.1 MB, without ray and real nodes")
    options = parser.parse_args()
    if options.toy:
        options.rounds, options.megabytes, options.clients = 1, 0.1, 2
    return options


def print_line(
    part: str, engine: str, marks: Sequence[float], reference: float | None, processors: Sequence[float] = ()
) -> float:
    """Print the time of a round from the times at which the rounds ended, and return it.

    `marks` and `processors` (seconds of processor time) begin with the start of the run; the ratio is that to
    `reference`, in seconds.
    """
    first, *later = [end - begin for begin, end in pairwise(marks)]
    median = statistics.median(later)
    ratio = f"{median / reference:7.2f}x" if reference else f"{'':8}"
    used = statistics.median(end - begin for begin, end in pairwise(processors[1:])) if processors else None
    spent = "" if used is None else f"{used:11.2f} s"
    print(f"{part:10}{engine:28}{median:8.3f} s{ratio}{first:12.2f} s{spent}", flush=True)
    return median


def measure_sites(folder: Path, rounds: int, size: int) -> None:
    """Measure the same run in one process and with real nodes, without and with secure aggregation.

    The second run of the nodes finds them warm, and is compared with the third.
    """
    workspace = folder / "workspace"
    prepare(workspace, size)
    marks, processors = federate_sites(workspace, rounds)
    inline = print_line("sites", "inline", marks, None, processors)
    marks, processors = federate_sites(workspace, rounds, secure=True)
    print_line("sites", "inline, secure", marks, inline, processors)
    with deployed(workspace, folder) as deployment:
        for engine in ("superlink, TLS", "superlink, TLS, again", "superlink, TLS, secure"):
            secure = engine.endswith("secure")
            marks, processors = federate_sites(workspace, rounds, deployment, secure)
            print_line("sites", engine, marks, inline, processors)


def prepare(workspace: Path, size: int) -> None:
    """Preprocess and partition a few images of each site."""
    for name, patients in PATIENTS.items():
        raw = DEMO_DATA[name](workspace / "raw" / name, patients, 0)
        preprocess(
            PreprocessConfig(workspace=workspace, raw={name: raw}, size=size, slice_half_width=2), name
        )
    partition(PartitionConfig(workspace=workspace, split=dict.fromkeys(PATIENTS, 1)))


@contextmanager
def deployed(workspace: Path, folder: Path) -> Iterator[Deployment]:
    """Provide a server and a node of each site, started by the commands that hospitals run."""
    deployment = init_deployment(folder / "deployment", "localhost", free_port(), list(PATIENTS), DAYS)
    shards = partition_folder(workspace) / "shards"
    commands = {"server": ["server", "--deployment", deployment.path, "--bind", "127.0.0.1"]}
    for name in PATIENTS:
        shard = shards / f"{name}.h5"
        commands[name] = ["node", "--site", deployment.site(name).path, "--shard", shard, "--device", "cpu"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in commands.items():
            command = [sys.executable, "-m", "flames_cli", "deploy", *map(str, arguments)]
            started.append(start(command, folder / f"{name}.out", dict(os.environ)))
            if name == "server":
                wait_until_healthy(
                    started[0],
                    deployment.superlink,
                    deployment.ca_certificate,
                    folder / "server.out",
                    WAIT_SECONDS,
                )
        yield deployment
    finally:
        for process in reversed(started):
            stop(process)


def federate_sites(
    workspace: Path, rounds: int, deployment: Deployment | None = None, secure: bool = False
) -> tuple[list[float], list[float]]:
    """Run a federation in this process, or with the nodes of `deployment`; `secure`: with secure aggregation.

    Return the time and the processor time at its start and at the end of each round.
    """
    marks, processors = [time.monotonic()], [processor_seconds()]

    def watch(event: Event) -> None:
        if isinstance(event, RoundDone):
            marks.append(time.monotonic())
            processors.append(processor_seconds())

    real = {"engine": "superlink", "deployment": deployment.path} if deployment else {"engine": "inline"}
    small = {"batch_size": 8, "model": "unet", "model_options": {"base_channels": 8}, "device": "cpu"}
    chosen = {"strategy": "fedavg", "rounds": rounds + 1, "fresh": True, "secure_aggregation": secure}
    federate(FederateConfig(workspace=workspace, **small, **chosen, **real), watch)
    return marks, processors


def processor_seconds() -> float:
    """Return the processor time of this process and of all processes below it that run now."""
    used = 0.0
    for process in (psutil.Process(), *descendants(os.getpid())):
        with suppress(psutil.Error):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def measure_constant(folder: Path, options: argparse.Namespace) -> None:
    """Measure FLAMES' server, Flower's and NVFlare's with the same clients."""
    reference = print_line("constant", "Flower's FedAvg, inline", run_inline_arm("flower", options), None)
    for arm in ("fedavg", "flames"):
        print_line("constant", f"{arm}, inline", run_inline_arm(arm, options), reference)
    if not options.toy:
        with simulated(folder) as cli:
            for arm, label in (("flower", "Flower's FedAvg, ray"), ("fedavg", "fedavg, ray")):
                print_line("constant", label, run_ray_arm(cli, arm, folder, options), reference)
    if options.nvflare is None:
        print("constant  NVFlare                     not measured: pass --nvflare PYTHON")
        return
    print_line("constant", "NVFlare's FedAvg", run_nvflare(folder, options), reference)


def run_inline_arm(arm: str, options: argparse.Namespace) -> list[float]:
    """Run an arm of `engines_app.py` in its own process, and return the ends of its rounds."""
    command = [sys.executable, str(HERE / "engines_app.py"), arm, str(options.clients)]
    command += [str(options.megabytes), str(options.rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return list[float](json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def simulated(folder: Path) -> Iterator[FlwrCommand]:
    """Provide Flower's SuperLink with its simulation by ray, which finds the modules of this folder."""
    home, port, log = folder / "flower", free_port(), folder / "superlink.log"
    command = [sys.executable, "-m", "flames_cli.flower", "superlink", "--flames-protocol", "0", "--insecure"]
    command += ["--simulation", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--disable-runtime-dependency-installation"]
    paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    process = start(command, log, {**child_environment(home), "PYTHONPATH": paths})
    try:
        wait_until_healthy(process, f"127.0.0.1:{port}", None, log, WAIT_SECONDS)
        yield FlwrCommand(home, f"127.0.0.1:{port}", None)
    finally:
        stop(process)


def run_ray_arm(cli: FlwrCommand, arm: str, folder: Path, options: argparse.Namespace) -> list[float]:
    """Run an arm over ray, and return the ends of its rounds."""
    out, app = folder / f"{arm}.json", folder / "app"
    app.mkdir(exist_ok=True)
    (app / "pyproject.toml").write_text(tomli_w.dumps(APP), encoding="utf-8")
    config = {"arm": arm, "out": str(out)}
    config |= {name: str(getattr(options, name)) for name in ("clients", "megabytes", "rounds")}
    run = cli.submit(app, config, {"num_supernodes": options.clients, "client_resources_num_cpus": 1})
    deadline = time.monotonic() + WAIT_SECONDS
    while not (status := cli.run_status(run))[0].startswith("finished"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{arm} over ray: {status} after {WAIT_SECONDS:.0f} s")
        time.sleep(1)
    if not out.is_file():
        raise RuntimeError(f"{arm} over ray: {status}; see {folder / 'superlink.log'}")
    return list[float](json.loads(out.read_text(encoding="utf-8")))


def run_nvflare(folder: Path, options: argparse.Namespace) -> list[float]:
    """Run NVFlare's simulator in its own Python, and return the ends of its rounds."""
    command = [options.nvflare, str(HERE / "engines_nvflare.py"), str(folder), str(options.clients)]
    command += [str(options.megabytes), str(options.rounds + 1)]
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    return list[float](json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
