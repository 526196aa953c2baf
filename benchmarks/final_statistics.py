"""Test Dice of final models with the statistics of BatchNorm that the product uses, and with others.

    python benchmarks/final_statistics.py --workspace FOLDER --strategies fedavg flames --rounds 2

FOLDER is partitioned (`flames partition`). Each strategy is trained as the run `statistics-STRATEGY`, or is
continued. All columns score the same weights on the same cases, with three kinds of statistics: `stale` are
those that averaging and blending leave; `used` are those with which `flames evaluate` scores, which the
clients estimated after the last round; `again` are estimated here, on all training images of the client, or
of all clients of the modality. `loss` is again − used; the last line has the largest loss of each strategy.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.core.scores.metrics import dice
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import pick_device
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.stages.evaluate.loading import LoadedRun, load_run
from flames_cli.stages.evaluate.models_under_test import (
    SPLITS,
    ModelUnderTest,
    find_models_under_test,
    list_held_out,
    read_held_out,
)
from flames_cli.stages.federate.stage import federate
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import Partition, checked_shard, read_partition
from flames_cli.store.workspace import partition_file, partition_folder

BATCH_SIZE = 64

OPTIMISERS: dict[str, dict[str, Any]] = {"scaffold": {"optimiser": "sgd", "lr": 0.1}}
"""Options of strategies that are not defined for Adam."""

Estimate = Callable[[Weights, Sequence[str]], Weights]
"""estimate(weights, clients) returns the weights with statistics of the training images of `clients`."""


def main() -> None:
    """Train every strategy, and print a table of its models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--strategies", nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--base-channels", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    partition = read_partition(partition_file(options.workspace))
    losses = {}
    print(f"{'strategy':<18}{'model':<34}{'cases':>6}{'stale':>8}{'used':>8}{'again':>8}{'loss':>8}")
    for strategy in options.strategies:
        config = FederateConfig(
            workspace=options.workspace,
            strategy=strategy,
            run=f"statistics-{strategy}",
            rounds=options.rounds,
            model="unet",
            model_options={"base_channels": options.base_channels},
            batch_size=options.batch_size,
            seed=options.seed,
            device=options.device,
            **OPTIMISERS.get(strategy, {"lr": options.lr}),
        )
        federate(config)
        losses[strategy] = print_strategy(config, partition)
    print("largest loss:", ", ".join(f"{strategy} {loss:+.3f}" for strategy, loss in losses.items()))


def print_strategy(config: FederateConfig, partition: Partition) -> float:
    """Print one line for every client and every server model of a run; return the largest loss."""
    evaluation = EvaluateConfig(
        workspace=config.workspace, run=config.run_name, overlays=False, device=config.device
    )
    run = load_run(evaluation, config.run_name)
    estimate = make_estimate(config, partition)
    losses = []
    folder, old = partition_folder(config.workspace), replace(run.state, statistics=None)
    for held_out in (one for split in SPLITS for one in list_held_out(folder, partition, split)):
        tests = read_held_out(held_out)
        used, stale = (
            find_models_under_test(held_out, partition, run.algorithm, state) for state in (run.state, old)
        )
        for model, before in zip(used, stale, strict=True):
            again = replace(model, weights=estimate(model.weights, clients_of(model, run, partition)))
            scores = [mean_dice(run, one, tests.data) for one in (before, model, again)]
            losses.append(scores[2] - scores[1])
            name = model.label if model.split == "client_test" else f"server {model.label}"
            numbers = "".join(f"{score:>8.3f}" for score in scores)
            n = len(tests.data.selected)
            print(f"{config.strategy:<18}{name:<34}{n:>6}{numbers}{losses[-1]:>+8.3f}", flush=True)
    return max(losses)


def clients_of(model: ModelUnderTest, run: LoadedRun, partition: Partition) -> list[str]:
    """Return the clients on whose images the statistics of a model are estimated."""
    if model.split == "client_test" and not run.algorithm.pooled:
        return [model.label]
    found = [client.name for client in partition.clients if client.modality == model.modality]
    owner = model.label.rpartition(" by ")[2]
    return [owner] if owner in found else found


def make_estimate(config: FederateConfig, partition: Partition) -> Estimate:
    """Return the function that estimates statistics for weights of this run."""
    device = pick_device(config.device)
    model = build_model(config.model, seed=0, **options_for(1, config.model_options)).to(device)
    shards = {
        client.name: checked_shard(partition_folder(config.workspace), client) for client in partition.clients
    }

    def estimate(weights: Weights, clients: Sequence[str]) -> Weights:
        sets = [cases for client in clients for cases in read_shard_sets(shards[client], "train")]
        data = ShardDataset(sets)
        return estimate_statistics(model, weights, data, BATCH_SIZE, device, "fp32")

    return estimate


def mean_dice(run: LoadedRun, model: ModelUnderTest, data: ShardDataset) -> float:
    """Return the mean Dice of a model over the selected cases."""
    masks = run.segmenter.masks(model.weights, data, data.selected)
    return statistics.fmean(
        dice(mask, data.mask(case)) for case, mask in zip(data.selected, masks, strict=True)
    )


if __name__ == "__main__":
    main()
