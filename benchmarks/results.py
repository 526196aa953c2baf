"""Run and evaluate the federations of docs/results.md, several simultaneously.

    python benchmarks/results.py small norms --workspace flames-workspace --jobs 2
    python benchmarks/results.py full --workspace flames-workspace --device cuda --jobs 2 --minutes 8

The workspace is partitioned (`flames partition`). An arm of a comparison is what one `flames federate`
command with all its seeds makes; its name, options and seeds are in PLANS. Each seed is a process of its own.
A repeated call continues where the last one stopped. With --minutes, federations stop after the round in
which the time is over. Arms with a finished federation are evaluated after their last round.
"""

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.fed.events import Event, RoundDone
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate

THREE = (0, 1, 2)
LAST: dict[str, Any] = {"keep_epoch": "last"}
SMALL = {
    **LAST,
    "model": "unet",
    "model_options": {"base_channels": 8, "depth": 4},
    "rounds": 24,
    "lr": 1e-3,
    "batch_size": 16,
}
FULL = {
    **LAST,
    "model": "densenet-unet",
    "encoder_weights": "none",
    "rounds": 50,
    "lr": 3e-4,
    "batch_size": 16,
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of a table: a strategy with its options and seeds."""

    name: str
    strategy: str
    options: dict[str, Any]
    seeds: tuple[int, ...] = (0,)


STRATEGIES = ("flames", "fedavg", "fedavg-modality", "flames-adaptive", "centralised", "local")
NORMS = {"stale": {"precise_norm": False}, "group": {"norm": "group"}, "frozen": {"norm": "frozen"}}
PLANS: dict[str, tuple[Arm, ...]] = {
    "small": tuple(Arm(strategy, strategy, SMALL, THREE) for strategy in STRATEGIES),
    "norms": tuple(
        Arm(f"{strategy}-{name}", strategy, {**SMALL, **options})
        for strategy in ("flames", "fedavg")
        for name, options in NORMS.items()
    ),
    "full": tuple(Arm(f"{strategy}-full", strategy, FULL) for strategy in ("flames", "fedavg")),
}
"""The arms of each plan, in the order in which they start."""


class TimeIsOver(Exception):
    """The end of the time for all arms; the round that has just ended is stored."""


def main() -> int:
    """Run the arms of the chosen plans, seed after seed, then evaluate them; return the exit status."""
    options = parse_options()
    deadline = time.time() + options.minutes * 60 if options.minutes else None
    arms = [arm for plan in options.plans for arm in PLANS[plan]]
    members = [(arm, seed) for seed in THREE for arm in arms if seed in arm.seeds]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context) as pool:
        train = partial(run_member, options.workspace, options.device, deadline)
        done = dict(zip(((arm.name, seed) for arm, seed in members), pool.map(train, members), strict=True))
        # Evaluation leaves out the seeds that are not finished.
        some = [arm for arm in arms if any(done[arm.name, seed] for seed in arm.seeds)]
        scored = list(pool.map(partial(evaluate_arm, options.workspace, options.device), some))
    return int(not all(done.values()) or not all(scored))


def parse_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plans", nargs="+", choices=sorted(PLANS))
    parser.add_argument("--workspace", type=Path, required=True, help="folder with a partition")
    parser.add_argument("--jobs", type=int, default=1, help="number of federations that run simultaneously")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, help="time for all federations together")
    return parser.parse_args()


def run_member(workspace: Path, device: str, deadline: float | None, member: tuple[Arm, int]) -> bool:
    """Run the federation of one seed; return whether it has all its rounds."""
    arm, seed = member
    # Federations that run simultaneously share the cores: more threads would only wait for each other.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = FederateConfig(
        workspace=workspace,
        device=device,
        run=arm.name,
        strategy=arm.strategy,
        seeds=arm.seeds if len(arm.seeds) > 1 else (),
        seed=seed,
        **arm.options,
    )
    started = time.time()

    def stop_in_time(event: Event) -> None:
        if deadline is not None and time.time() > deadline and isinstance(event, RoundDone):
            raise TimeIsOver

    try:
        rounds = len(federate(config, stop_in_time).records)
        said = f"{rounds} rounds"
    except TimeIsOver:
        rounds, said = 0, "stopped; the same command continues it"
    except Exception:
        rounds, said = 0, traceback.format_exc()
    print(f"{config.run_name}: {said}, {time.time() - started:.0f} s", flush=True)
    return rounds == config.rounds


def evaluate_arm(workspace: Path, device: str, arm: Arm) -> bool:
    """Evaluate an arm after its last round; return whether that succeeded."""
    try:
        evaluate(
            EvaluateConfig(workspace=workspace, device=device, run=arm.name, round="last", overlays=False)
        )
    except Exception:
        print(f"{arm.name}: {traceback.format_exc()}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
