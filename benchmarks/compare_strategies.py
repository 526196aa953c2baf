"""Comparison of strategies over several seeds on centres that no client has seen: Dice by size of lesion.

    python benchmarks/compare_strategies.py sample_configs/lits-slices-fedgs.toml --unseen C1 C2 --seeds 0 1 2

Each centre of --unseen is held out in turn, in a workspace of its own, and the other centres are the clients.
Each seed gives all strategies the same partition, initial weights and order of images. The tables are those
of `flames compare` over the cases of all centres together: means, and differences to the first strategy that
are paired by seed and case, with 95 % limits of a bootstrap over patients and seeds.

A strategy may have its own options, as in `fedavg,lr=0.002`. It must have one model for all clients, or one
for each modality. The same command resumes where it stopped; delete the workspace after a change of the
configuration.
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

from flames_cli.cli.options import parse_number
from flames_cli.config import (
    EvaluateConfig,
    FederateConfig,
    PartitionConfig,
    PreprocessConfig,
    load_section,
)
from flames_cli.errors import FlamesError
from flames_cli.fed.events import Event, OnEvent, RoundDone
from flames_cli.report.text_tables import to_markdown
from flames_cli.stages.compare.grids import difference_table, mean_table
from flames_cli.stages.compare.samples import choose_scores, pool_scores
from flames_cli.stages.compare.tables import make_tables
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.members import federate_all
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.evaluations import CASES, CaseScore, read_case_scores


def main() -> None:
    """Run the missing federations, then print the tables."""
    options = parse_options()
    started = time.monotonic()
    found: dict[str, list[CaseScore]] = {strategy: [] for strategy in options.strategies}
    for site in options.unseen:
        workspace = prepare(options.config, site)
        for strategy in options.strategies:
            found[strategy] += run(options.config, workspace, strategy, tuple(options.seeds))
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")
    print_tables(found)


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


def run(config: Path, workspace: Path, strategy: str, seeds: tuple[int, ...]) -> list[CaseScore]:
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
    return read_case_scores(made.folder / CASES)


def print_rounds(label: str) -> OnEvent:
    """Return a function that prints one line for each round."""

    def on_event(event: Event) -> None:
        if isinstance(event, RoundDone):
            losses = " ".join(f"{client.get('train_loss', 0):.3f}" for client in event.record["clients"])
            print(f"{label}: round {event.record['round']}, {event.record['seconds']:.0f} s, loss {losses}")

    return on_event


def print_tables(found: dict[str, list[CaseScore]]) -> None:
    """Print Dice of all strategies by unseen centre and by size of lesion, and the paired differences."""
    names = [*found]
    pools = [pool_scores(choose_scores(scores, [], "slices", name)) for name, scores in found.items()]
    tables = make_tables(pools, by="lesion", metric="dice", seed=0, options=("dice", "lesion-f1"))
    for option in ("dice", "lesion-f1"):
        scores = []
        for table in tables.tables:
            print(f"\n{to_markdown(mean_table(tables, option, table, names, with_sd=True))}")
            scores += [one for one in tables.of(option, table) if any(one.differences)]
        if scores:
            print(to_markdown(difference_table(scores, names, detail=True)))


if __name__ == "__main__":
    main()
