"""Comparison of strategies over several seeds on centres that no client has seen: Dice by size of lesion.

    python benchmarks/compare_strategies.py sample_configs/lits-slices-fedgs.toml --unseen C1 C2 --seeds 0 1 2

Each centre of --unseen is held out in turn, and the other centres are the clients. Each seed gives all
strategies the same partition, initial weights and order of images. The Dice of a case is its mean over the
seeds. Differences are paired by case with the first strategy; their 95 % limits come from a bootstrap that
draws patients, so that many slices of one patient do not count as many patients. The differences of the
single seeds are printed next to them.

A strategy may have its own options, as in `fedavg,lr=0.002`. It must have one model for all clients, or one
for each modality. The same command resumes where it stopped; delete the workspace after a change of the
configuration.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.cli.options import parse_number
from flames_cli.config import (
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    load_section,
)
from flames_cli.core.scores.detection import LesionCounts, pool_counts
from flames_cli.core.scores.intervals import paired_interval
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Event, OnEvent, RoundDone
from flames_cli.stages.evaluate.lesion_rows import SIZES, has_size
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess

COUNTS = ("lesions", "lesions_found", "lesions_predicted", "lesions_right")


@dataclass(frozen=True, slots=True)
class Case:
    """One test image with one model."""

    patient: str
    lesion: str
    values: dict[str, float]


Run = dict[str, Case]
"""Results by case name, of all unseen centres with one strategy and seed."""


def main() -> None:
    """Run the missing federations, then print the tables."""
    options = parse_options()
    started = time.monotonic()
    runs: dict[str, list[Run]] = {strategy: [{} for _ in options.seeds] for strategy in options.strategies}
    for site in options.unseen:
        workspace = prepare(options.config, site)
        for number, seed in enumerate(options.seeds):
            for strategy in options.strategies:
                runs[strategy][number] |= run(options.config, workspace, strategy, seed)
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")
    baseline, *others = options.strategies
    for strategy in others:
        print_table(baseline, runs[baseline], strategy, runs[strategy])


def parse_options() -> argparse.Namespace:
    """Return the options: configuration, strategies, centres and seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("strategies", nargs="*", default=["fedavg", "fedgs"])
    parser.add_argument("--unseen", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    return parser.parse_args()


def prepare(config: Path, site: str) -> Path:
    """Make the workspace in which `site` is unseen.

    The data are preprocessed again each time: the same options give the same bytes, and `federate` resumes a
    run only with the same partition.
    """
    read = load_section(PreprocessConfig, {"overwrite": True}, config)
    workspace = read.workspace / f"unseen-{site}"
    (dataset,) = read.datasets
    preprocess(read.model_copy(update={"workspace": workspace}), dataset)
    typed = {"workspace": workspace, "hold_out_site": {dataset: site}, "overwrite": True}
    partition(load_section(PartitionConfig, typed, config))
    return workspace


def run(config: Path, workspace: Path, strategy: str, seed: int) -> Run:
    """Train and evaluate one model and return its cases."""
    name, *pairs = strategy.split(",")
    changes = {key: parse_number(text) for key, _, text in (pair.partition("=") for pair in pairs)}
    label = "-".join([name, *(f"{key}-{value}" for key, value in changes.items())])
    typed = {"workspace": workspace, "strategy": name, "seed": seed, "run": f"{label}-seed-{seed}", **changes}
    made = federate(
        load_section(FederateConfig, typed, config), print_rounds(f"{workspace.name} {label} {seed}")
    )
    evaluate(EvaluateConfig(workspace=workspace, run=made.run, server_test=True, overlays=False))
    return read_cases(made.folder / "evaluation" / "cases.csv")


def print_rounds(label: str) -> OnEvent:
    """Return a function that prints one line for each round."""

    def on_event(event: Event) -> None:
        if isinstance(event, RoundDone):
            losses = " ".join(f"{client.get('train_loss', 0):.3f}" for client in event.record["clients"])
            print(f"{label}: round {event.record['round']}, {event.record['seconds']:.0f} s, loss {losses}")

    return on_event


def read_cases(path: Path) -> Run:
    """Read the metrics of every case from a run's cases.csv."""
    found: Run = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = found.setdefault(row["case"], Case(row["patient"], row["lesion"], {})).values
            if row["metric"] in values:
                raise FlamesError(f"{path}: several models were tested on {row['case']}, expected one")
            values[row["metric"]] = float(row["value"])
    return found


def print_table(baseline: str, theirs: Sequence[Run], strategy: str, ours: Sequence[Run]) -> None:
    """Print Dice of both strategies by size, with the paired difference, then the lesions found."""
    print(f"\n{strategy} against {baseline}: Dice, mean over {len(ours)} seeds of each case")
    width = max(len(baseline), len(strategy))
    print(
        f"{'size':8}{'images':>7}{'patients':>9}  {baseline:>{width}}  {strategy:>{width}}"
        "  difference (95 % limits)   by seed"
    )
    for size in SIZES:
        names = sorted(name for name, case in theirs[0].items() if has_size(case.lesion, size))
        if not names:
            continue
        before, after = (mean_dice(runs, names) for runs in (theirs, ours))
        gains = [one - other for one, other in zip(after, before, strict=True)]
        interval = paired_interval(gains, [theirs[0][name].patient for name in names], seed=0)
        by_seed = (
            statistics.fmean(mean_dice([one], names)) - statistics.fmean(mean_dice([other], names))
            for one, other in zip(ours, theirs, strict=True)
        )
        print(
            f"{size:8}{interval.n:7}{interval.n_patients:9}"
            f"  {statistics.fmean(before):{width}.3f}  {statistics.fmean(after):{width}.3f}"
            f"  {interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
            f"  {' '.join(f'{gain:+.3f}' for gain in by_seed)}"
        )
    for name, runs in ((baseline, theirs), (strategy, ours)):
        print(f"{name}: {'; '.join(lesions_found(runs, size) for size in ('small', 'all'))}")


def mean_dice(runs: Sequence[Run], names: Sequence[str]) -> list[float]:
    """Return the mean Dice of each case over the runs."""
    return [statistics.fmean(one[name].values["dice"] for one in runs) for name in names]


def lesions_found(runs: Sequence[Run], size: str) -> str:
    """Return a text with lesion-wise recall and precision over all runs, for images of one size."""
    cases = [case for one in runs for case in one.values() if has_size(case.lesion, size)]
    counts = pool_counts(LesionCounts(*(int(case.values[name]) for name in COUNTS)) for case in cases)
    return (
        f"{size}: {counts.found} of {counts.n} lesions found ({counts.recall():.2f}), "
        f"{counts.n_right} of {counts.n_predicted} predicted are right ({counts.precision():.2f})"
    )


if __name__ == "__main__":
    main()
