"""Comparison of strategies over several seeds on centres that no client has seen: Dice by size of lesion.

    python benchmarks/compare_strategies.py sample_configs/lits-slices-fedgs.toml --unseen C1 C2 --seeds 0 1 2

Each centre of --unseen is held out in turn, and the other centres are the clients. Each seed gives all
strategies the same partition, initial weights and order of images. Differences are paired by seed and case
with the first strategy; their 95 % limits come from a bootstrap that draws patients and seeds, so that many
slices of one patient do not count as many patients. The differences of the single seeds are printed next to
them.

A strategy may have its own options, as in `fedavg,lr=0.002`. It must have one model for all clients, or one
for each modality. The same command resumes where it stopped; delete the workspace after a change of the
configuration.
"""

import argparse
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.cli.options import parse_number
from flames_cli.config import (
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    load_section,
)
from flames_cli.core.scores.detection import LesionMatches
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Event, OnEvent, RoundDone
from flames_cli.stages.evaluate.lesion_rows import SIZES, has_size
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.evaluations import CASES, CaseScore, read_case_scores


@dataclass(frozen=True, slots=True)
class Case:
    """One test image with the models of all seeds."""

    patient: str
    lesion: str
    scores: list[CaseScore] = field(default_factory=list)
    """Scores in the order of seeds."""


Cases = dict[str, Case]
"""Results by case name, of all unseen centres with one strategy."""


def main() -> None:
    """Run the missing federations, then print the tables."""
    options = parse_options()
    started = time.monotonic()
    found: dict[str, Cases] = {strategy: {} for strategy in options.strategies}
    for site in options.unseen:
        workspace = prepare(options.config, site)
        for strategy in options.strategies:
            found[strategy] |= run(options.config, workspace, strategy, tuple(options.seeds))
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")
    baseline, *others = options.strategies
    for strategy in others:
        print_table(baseline, found[baseline], strategy, found[strategy])


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


def run(config: Path, workspace: Path, strategy: str, seeds: tuple[int, ...]) -> Cases:
    """Train and evaluate one model for each seed and return their cases."""
    name, *pairs = strategy.split(",")
    changes = {key: parse_number(text) for key, _, text in (pair.partition("=") for pair in pairs)}
    label = "-".join([name, *(f"{key}-{value}" for key, value in changes.items())])
    typed = {"workspace": workspace, "strategy": name, "seeds": seeds, "run": label, **changes}
    options = load_section(FederateConfig, typed, config)
    for _ in federate_all(options, lambda title: nullcontext(print_rounds(f"{workspace.name} {title}"))):
        pass
    made = evaluate(EvaluateConfig(workspace=workspace, run=label, server_test=True, overlays=False))
    if made.seeds != tuple(sorted(seeds)):
        raise FlamesError(f"{made.folder} has the seeds {made.seeds}, expected {seeds}; delete {workspace}")
    return read_cases(made.folder / CASES, len(seeds))


def print_rounds(label: str) -> OnEvent:
    """Return a function that prints one line for each round."""

    def on_event(event: Event) -> None:
        if isinstance(event, RoundDone):
            losses = " ".join(f"{client.get('train_loss', 0):.3f}" for client in event.record["clients"])
            print(f"{label}: round {event.record['round']}, {event.record['seconds']:.0f} s, loss {losses}")

    return on_event


def read_cases(path: Path, n_seeds: int) -> Cases:
    """Read the scores of every selected image from the cases.csv of an evaluation."""
    found: Cases = {}
    for score in read_case_scores(path):
        if score.selected:
            found.setdefault(score.case, Case(score.person, score.lesion)).scores.append(score)
    if any(len(case.scores) != n_seeds for case in found.values()):
        raise FlamesError(f"{path}: several models were tested on one case, expected one for each seed")
    return found


def print_table(baseline: str, theirs: Cases, strategy: str, ours: Cases) -> None:
    """Print Dice of both strategies by size, with the paired difference, then the lesions found."""
    print(f"\n{strategy} against {baseline}: mean Dice over images and seeds")
    width = max(len(baseline), len(strategy))
    print(
        f"{'size':8}{'images':>7}{'patients':>9}  {baseline:>{width}}  {strategy:>{width}}"
        "  difference (95 % limits)   by seed"
    )
    for size in SIZES:
        names = sorted(name for name, case in theirs.items() if has_size(case.lesion, size))
        if not names:
            continue
        before, after = (dice_of(cases, names) for cases in (theirs, ours))
        gains = after - before
        interval = bootstrap_interval(gains, [theirs[name].patient for name in names], seed=0)
        print(
            f"{size:8}{interval.n:7}{interval.n_patients:9}"
            f"  {before.mean():{width}.3f}  {after.mean():{width}.3f}"
            f"  {interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
            f"  {' '.join(f'{gain:+.3f}' for gain in gains.mean(axis=1))}"
        )
    for name, cases in ((baseline, theirs), (strategy, ours)):
        print(f"{name}: {'; '.join(lesions_found(cases, size) for size in ('small', 'all'))}")


def dice_of(cases: Cases, names: list[str]) -> Floats:
    """Return the Dice of the named cases, S×N by seed and case."""
    return np.array([[score.dice for score in cases[name].scores] for name in names]).T


def lesions_found(cases: Cases, size: str) -> str:
    """Return a text with lesion-wise recall and precision over all seeds, for images of one size."""
    scores = [score for case in cases.values() if has_size(case.lesion, size) for score in case.scores]
    counts = LesionMatches(
        lesions=sum(score.lesions or 0 for score in scores),
        predicted=sum(score.lesions_predicted or 0 for score in scores),
        matched=sum(score.lesions_matched or 0 for score in scores),
        images=len(scores),
    )
    return (
        f"{size}: {counts.matched} of {counts.lesions} lesions found ({counts.recall():.2f}), "
        f"of {counts.predicted} predicted ones {counts.precision():.2f} are right, F1 {counts.f1():.2f}"
    )


if __name__ == "__main__":
    main()
