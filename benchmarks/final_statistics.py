"""Test Dice of final models with the statistics of their blend, and with statistics of their own.

    python benchmarks/final_statistics.py --workspace FOLDER --strategies fedavg flames --rounds 2

FOLDER is partitioned (`flames partition`). Each strategy is trained as the run `statistics-STRATEGY`, or is
continued. Both columns score the same weights on the same cases: `stale` are the statistics of BatchNorm that
averaging and blending leave, `own` those that the clients estimate after the last round.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.core.federated.reports import State
from flames_cli.stages.evaluate.models_under_test import HeldOutSets, find_models_under_test, load_held_out
from flames_cli.stages.evaluate.scoring import score_model
from flames_cli.stages.evaluate.stage import LoadedRun, load_run
from flames_cli.stages.federate.stage import federate
from flames_cli.store.partition import Partition, read_partition

SPLITS = ("client_test", "server_test")


def main() -> None:
    """Train every strategy, and print a table of its models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--strategies", nargs="+", default=["fedavg", "flames", "fedavg-modality"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--base-channels", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'strategy':<18}{'model':<22}{'cases':>6}{'stale':>8}{'own':>8}{'gain':>8}")
    for strategy in options.strategies:
        config = FederateConfig(
            workspace=options.workspace,
            strategy=strategy,
            run=f"statistics-{strategy}",
            rounds=options.rounds,
            model="unet",
            model_options={"base_channels": options.base_channels},
            lr=options.lr,
            batch_size=options.batch_size,
            seed=options.seed,
        )
        federate(config)
        print_strategy(options.workspace, strategy, str(config.run))


def print_strategy(workspace: Path, strategy: str, run_name: str) -> None:
    """Print one line for every client and every server model of a run."""
    partition = read_partition(workspace / "partition.json")
    evaluation = EvaluateConfig(workspace=workspace, run=run_name, overlays=False)
    run = load_run(evaluation, run_name, workspace / "partition.json")
    for split in SPLITS:
        tests = load_held_out(workspace, partition, split)
        stale = score(run, tests, partition, replace(run.state, statistics=None), split)
        own = score(run, tests, partition, run.state, split)
        for label, (n, dice) in own.items():
            before = stale[label][1]
            name = label if split == "client_test" else f"server {label}"
            print(f"{strategy:<18}{name:<22}{n:>6}{before:>8.3f}{dice:>8.3f}{dice - before:>+8.3f}")


def score(
    run: LoadedRun, tests: HeldOutSets, partition: Partition, state: State, split: str
) -> dict[str, tuple[int, float]]:
    """Return {model: (cases, mean Dice)}."""
    found = {}
    for model in find_models_under_test(tests, partition, run.algorithm, state, split):
        dice = [one.metrics["dice"] for one in score_model(run.segmenter, model)]
        found[model.label] = len(dice), statistics.fmean(dice)
    return found


if __name__ == "__main__":
    main()
