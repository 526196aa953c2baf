"""Strategies side by side over several seeds, on centres that no client has seen: Dice by size of lesion.

    python benchmarks/compare_strategies.py sample_configs/lits-slices-fedgs.toml --unseen C1 C2 --seeds 0 1 2

Each centre of --unseen is held out in turn, and clients are made of the rest. Every seed gives all strategies
the same partition, initial weights and order of images. A case's Dice is its mean over the seeds; differences
are paired by case against the first strategy, with 95 % limits by a bootstrap that draws patients, so that
many slices of one patient do not count as so many patients. What differs between seeds alone is told beside.

A strategy may bring options of its own, `fedavg,lr=0.002`. Run again, it goes on where it stopped.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.cli.options import parse_number
from flames_cli.config import (
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    load_section,
)
from flames_cli.core.intervals import paired_interval
from flames_cli.fed.events import Event, RoundDone
from flames_cli.stages.evaluate import evaluate
from flames_cli.stages.federate import federate
from flames_cli.stages.partition import partition
from flames_cli.stages.preprocess import preprocess

SIZES = ("small", "large", "lesion", "all")
COUNTS = ("lesions", "lesions_found", "lesions_predicted", "lesions_right")

Cases = dict[tuple[str, int, str], "Case"]
"""By strategy, seed and case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test image with one model."""

    patient: str
    lesion: str
    values: dict[str, float]

    def is_of(self, size: str) -> bool:
        """Whether it counts among `size`."""
        return size == "all" or self.lesion == size or (size == "lesion" and self.lesion != "none")


def main() -> None:
    """Run what is missing, then print the tables."""
    options = parse_options()
    config = options.config
    started = time.monotonic()
    cases: Cases = {}
    for site in options.unseen:
        workspace = prepare(config, site)
        for seed in options.seeds:
            for strategy in options.strategies:
                cases |= run(config, workspace, strategy, seed)
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")
    for strategy in options.strategies[1:]:
        print_table(cases, options.strategies[0], strategy, options.seeds)


def parse_options() -> argparse.Namespace:
    """The configuration, the strategies, the centres and the seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("strategies", nargs="*", default=["fedavg", "fedgs"])
    parser.add_argument("--unseen", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    return parser.parse_args()


def prepare(config: Path, site: str) -> Path:
    """The workspace in which `site` is unseen, partitioned."""
    made = load_section(PreprocessConfig, {}, config)
    workspace = made.workspace / f"unseen-{site}"
    (dataset,) = made.datasets
    if not (workspace / "preprocessed").exists():
        preprocess(made.model_copy(update={"workspace": workspace}), dataset)
    if not (workspace / "partition.json").exists():
        typed = {"workspace": workspace, "hold_out_site": {dataset: site}}
        partition(load_section(PartitionConfig, typed, config))
    return workspace


def run(config: Path, workspace: Path, strategy: str, seed: int) -> Cases:
    """Train and evaluate one model; its cases."""
    name, *pairs = strategy.split(",")
    changes: dict[str, Any] = {key: parse_number(text) for key, _, text in (p.partition("=") for p in pairs)}
    label = "-".join([name, *(f"{key}-{value}" for key, value in changes.items())])
    typed = {"workspace": workspace, "strategy": name, "seed": seed, "run": f"{label}-seed-{seed}", **changes}
    federation = federate(
        load_section(FederateConfig, typed, config), tell(f"{workspace.name} {label} {seed}")
    )
    evaluate(EvaluateConfig(workspace=workspace, run=federation.run, server_test=True, overlays=False))
    return {
        (strategy, seed, case): one
        for case, one in read_cases(federation.folder / "evaluation" / "cases.csv")
    }


def tell(what: str) -> Any:
    """Prints a line a round."""

    def on_event(event: Event) -> None:
        if isinstance(event, RoundDone):
            losses = " ".join(f"{client.get('train_loss', 0):.3f}" for client in event.record["clients"])
            print(f"{what}: round {event.record['round']}, {event.record['seconds']:.0f} s, loss {losses}")

    return on_event


def read_cases(path: Path) -> Iterator[tuple[str, Case]]:
    """(case, what was measured) of every case in a run's cases.csv."""
    found: dict[str, Case] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            case = found.setdefault(row["case"], Case(row["patient"], row["lesion"], {}))
            case.values[row["metric"]] = float(row["value"])
    yield from found.items()


def print_table(cases: Cases, baseline: str, strategy: str, seeds: Sequence[int]) -> None:
    """Dice of both by size, with the paired difference; then lesions found."""
    print(f"\n{strategy} against {baseline}, Dice, mean over {len(seeds)} seeds of each case")
    print(
        f"{'size':8}{'images':>7}{'patients':>9}{baseline:>9}{strategy:>9}"
        "  difference (95 % limits)   by seed"
    )
    summary = {}
    for size in SIZES:
        names = sorted(
            name
            for (one, seed, name), case in cases.items()
            if (one, seed) == (baseline, seeds[0]) and case.is_of(size)
        )
        means = {one: [mean_dice(cases, one, seeds, name) for name in names] for one in (baseline, strategy)}
        gains = [ours - theirs for ours, theirs in zip(means[strategy], means[baseline], strict=True)]
        patients = [cases[baseline, seeds[0], name].patient for name in names]
        interval = paired_interval(gains, patients, seed=0)
        by_seed = [
            statistics.fmean(
                cases[strategy, seed, name].values["dice"] - cases[baseline, seed, name].values["dice"]
                for name in names
            )
            for seed in seeds
        ]
        print(
            f"{size:8}{interval.n:7}{interval.n_patients:9}"
            f"{statistics.fmean(means[baseline]):9.3f}{statistics.fmean(means[strategy]):9.3f}"
            f"  {interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
            f"  {' '.join(f'{gain:+.3f}' for gain in by_seed)}"
        )
        summary[size] = {"n": interval.n, "mean": interval.mean, "low": interval.low, "high": interval.high}
    for one in (baseline, strategy):
        print(f"{one}: {lesions_found(cases, one, seeds)}")
    print(json.dumps(summary))


def mean_dice(
    cases: Mapping[tuple[str, int, str], Case], strategy: str, seeds: Sequence[int], name: str
) -> float:
    """Of one case, over the seeds."""
    return statistics.fmean(cases[strategy, seed, name].values["dice"] for seed in seeds)


def lesions_found(cases: Cases, strategy: str, seeds: Sequence[int]) -> str:
    """Lesion-wise recall and precision over all seeds, all images and those of small lesions."""
    told = []
    for size in ("small", "all"):
        of_size = [
            c for (one, seed, _), c in cases.items() if one == strategy and seed in seeds and c.is_of(size)
        ]
        there, found, predicted, right = (sum(case.values[count] for case in of_size) for count in COUNTS)
        told.append(
            f"{size}: {found:.0f} of {there:.0f} lesions found, "
            f"{right:.0f} of {predicted:.0f} predicted are right"
        )
    return "; ".join(told)


if __name__ == "__main__":
    main()
