"""Run and evaluate the federations of docs/results.md, several simultaneously.

    python benchmarks/results.py small norms --workspace flames-workspace --jobs 2
    python benchmarks/results.py full --workspace flames-workspace --device cuda --jobs 2 --minutes 8

The workspace is partitioned (`flames partition`). An arm of a comparison is one `flames federate` command and
one `flames evaluate` command, which are printed. A repeated call continues where the last one stopped. With
--minutes, commands that have not ended by then are stopped; a federation loses at most its last round.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

THREE = (0, 1, 2)
UNET = ("--model", "unet", "--model-option", "base_channels=8", "--model-option", "depth=4")
SMALL = (*UNET, "--rounds", "24", "--lr", "1e-3", "--batch-size", "16", "--keep-epoch", "last")
DENSENET = ("--model", "densenet-unet", "--encoder-weights", "none")
FULL = (*DENSENET, "--rounds", "50", "--lr", "3e-4", "--batch-size", "16", "--keep-epoch", "last")


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of a table: a strategy with its options and seeds."""

    name: str
    strategy: str
    options: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)


STRATEGIES = ("flames-adaptive", "flames", "fedavg-modality", "fedavg", "centralised", "local")
NORMS = {"stale": ("--no-precise-norm",), "group": ("--norm", "group"), "frozen": ("--norm", "frozen")}
PLANS: dict[str, tuple[Arm, ...]] = {
    "small": tuple(Arm(strategy, strategy, SMALL, THREE) for strategy in STRATEGIES),
    "norms": tuple(
        Arm(f"{strategy}-{name}", strategy, (*SMALL, *options))
        for strategy in ("fedavg", "flames")
        for name, options in NORMS.items()
    ),
    "full": tuple(Arm(f"{strategy}-full", strategy, FULL) for strategy in ("flames", "fedavg")),
}
"""The arms of each plan, in the order in which they start."""


def main() -> int:
    """Run the arms of the chosen plans; return the exit status."""
    options = parse_options()
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
    arms = [arm for plan in options.plans for arm in PLANS[plan]]
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda arm: run_arm(arm, options, deadline), arms))
    return int(not all(done))


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", nargs="+", choices=sorted(PLANS))
    parser.add_argument("--workspace", type=Path, required=True, help="folder with a partition")
    parser.add_argument("--jobs", type=int, default=1, help="number of arms that run simultaneously")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, help="time for all arms together")
    return parser.parse_args()


def run_arm(arm: Arm, options: argparse.Namespace, deadline: float | None) -> bool:
    """Federate and evaluate one arm; return whether both commands ended well."""
    where = ("--workspace", str(options.workspace), "--device", options.device, "--run", arm.name)
    seeds = (
        ("--seeds", ",".join(map(str, arm.seeds))) if len(arm.seeds) > 1 else ("--seed", str(arm.seeds[0]))
    )
    commands = (
        ("federate", *where, "--strategy", arm.strategy, *seeds, *arm.options),
        ("evaluate", *where, "--round", "last", "--no-overlays"),
    )
    return all(run_command(arm.name, command, options.workspace / "logs", deadline) for command in commands)


def run_command(name: str, arguments: tuple[str, ...], logs: Path, deadline: float | None) -> bool:
    """Run one command with its output in a file; return whether it ended well and in time."""
    started = time.monotonic()
    if deadline is not None and started > deadline:
        return False
    print(" ".join(("flames", *arguments)), flush=True)
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}-{arguments[0]}.log"
    # Arms that run simultaneously share the cores; more threads for each would only wait for each other.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flames_cli", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            status = process.wait(None if deadline is None else deadline - started)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            status = process.wait()
    print(
        f"{name}: {arguments[0]} took {time.monotonic() - started:.0f} s, status {status}; {log}", flush=True
    )
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
