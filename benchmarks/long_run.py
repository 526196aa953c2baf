"""Resources of a long run: memory, open files and threads at round 20 and at the last of 200 rounds.

    OMP_NUM_THREADS=1 python benchmarks/long_run.py --rounds 200

Every strategy runs inline in its own process, on phantoms of three data sets at 32×32, with a U-Net of four
base channels. The rounds are short, so that growth can only come from data that a round does not release. A
round is measured after it was saved, with the clients' caches filled. Aim: memory within 5 %, the same number
of files and threads.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from flames_cli.config import FederateConfig, PartitionConfig, PreprocessConfig
from flames_cli.demo_data import DEMO_DATA
from flames_cli.fed.events import Event, RoundDone
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess

PATIENTS = {"brats": 18, "busi": 16, "otu2d": 16}

ARMS: dict[str, dict[str, Any]] = {
    "flames": {},
    "fedavg": {},
    "scaffold": {"optimiser": "sgd", "lr": 0.1},
    "fedavg-modality, private": {"strategy": "fedavg-modality", "dp_noise": 1.0, "dp_clip": 0.1},
}

Figures = Mapping[str, float]


def main() -> None:
    """Run every arm in its own process and print its resources in an early and in the last round."""
    options = parse_options()
    if options.arm:
        print(json.dumps(run_arm(options.arm, options.workspace, options.rounds)))
        return
    print(f"{'strategy':26}{'round':>6}{'memory':>10}{'ratio':>8}{'files':>7}{'threads':>9}{'objects':>10}")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        prepare(workspace)
        for name in options.strategies:
            print_arm(name, run_in_process(name, workspace, options.rounds))


def parse_options() -> argparse.Namespace:
    """Return the options: rounds and strategies. Child processes also receive their arm and workspace."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--strategies", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(workspace: Path) -> None:
    """Preprocess and partition a few small images of every data set of the paper."""
    for name, patients in PATIENTS.items():
        raw = DEMO_DATA[name](workspace / "raw" / name, patients, 0)
        preprocess(PreprocessConfig(workspace=workspace, raw={name: raw}, size=32, slice_half_width=2), name)
    partition(PartitionConfig(workspace=workspace))


def run_in_process(name: str, workspace: Path, rounds: int) -> dict[str, Figures]:
    """Run one arm in its own process and return its figures by round."""
    command = [
        sys.executable,
        __file__,
        "--arm",
        name,
        "--workspace",
        str(workspace),
        "--rounds",
        str(rounds),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict[str, Figures](json.loads(done.stdout.splitlines()[-1]))


def run_arm(name: str, workspace: Path, rounds: int) -> dict[int, Figures]:
    """Federate, and measure this process after round 20 (or half of the rounds) and after the last round."""
    at, measured = {min(20, rounds // 2), rounds}, {}

    def watch(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] in at:
            measured[event.record["round"]] = measure()

    small = {"batch_size": 8, "model": "unet", "model_options": {"base_channels": 4, "depth": 2}}
    chosen = {"strategy": name, "rounds": rounds, "device": "cpu", "run": f"arm-{list(ARMS).index(name)}"}
    federate(FederateConfig(workspace=workspace, **{**small, **chosen, **ARMS[name]}), watch)
    return measured


def measure() -> Figures:
    """Return resident memory in MB, open files, threads and tracked Python objects of this process."""
    process = psutil.Process()
    memory = process.memory_info().rss / 1e6  # before the garbage collection, as in a long run
    gc.collect()
    return {
        "mb": memory,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "objects": len(gc.get_objects()),
    }


def print_arm(name: str, measured: Mapping[str, Figures]) -> None:
    """Print a line for each measured round; ratios are relative to the first one."""
    first = next(iter(measured.values()))
    for round_, at in measured.items():
        ratio = f"{at['mb'] / first['mb']:.3f}x"
        print(
            f"{name:26}{round_:>6}{at['mb']:>7.1f} MB{ratio:>8}"
            f"{at['files']:>7}{at['threads']:>9}{at['objects']:>10,}",
            flush=True,
        )


if __name__ == "__main__":
    main()
