"""Markdown tables of several evaluated runs: Dice of every client and server model, and paired differences.

    python benchmarks/result_tables.py flames-workspace flames fedavg fedavg-modality local

Each name is a run of the workspace, or several with different seeds, that `flames evaluate --round last` has
scored. The first table has the mean Dice over images of each seed, as mean ± sd over seeds; `clients` is the
mean of the clients. The second has the differences of the first run from each of the others over the seeds
that both have, paired by seed and image, with 95 % limits of a bootstrap that draws patients and seeds.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.store.evaluations import CASES, read_case_scores
from flames_cli.store.workspace import evaluation_folder

Case = tuple[str, str, str]
"""Split, model and name of a case."""


class Arm:
    """The Dice of one run, or of several with different seeds, by case and seed."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.name = name
        self.dice: dict[Case, dict[int, float]] = {}
        self.patients: dict[Case, str] = {}
        folders = [evaluation_folder(workspace, f"{name}{end}") for end in ("-last", "")]
        folder = next(folder for folder in folders if folder.is_dir())
        for score in read_case_scores(folder / CASES):
            if score.selected:
                case = score.split, score.model, score.case
                self.dice.setdefault(case, {})[score.seed] = score.dice
                self.patients[case] = score.person
        self.seeds = sorted({seed for by_seed in self.dice.values() for seed in by_seed})

    def models(self, split: str) -> list[str]:
        """Return the models of a split, in order."""
        return list(dict.fromkeys(model for of, model, _ in self.dice if of == split))

    def by_seed(self, split: str, model: str) -> Floats:
        """Return the mean Dice of a model over its cases, for each seed."""
        cases = [values for (of, one, _), values in self.dice.items() if (of, one) == (split, model)]
        return np.array([np.mean([values[seed] for values in cases]) for seed in self.seeds])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workspace", type=Path)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    options = parser.parse_args()
    arms = [Arm(options.workspace, name) for name in options.runs]
    clients, servers = arms[0].models("client_test"), arms[0].models("server_test")
    print_row(["run", "seeds", *clients, "clients", *(f"server {name}" for name in servers)])
    print_row(["---"] * (len(clients) + len(servers) + 3))
    for arm in arms:
        of_clients = np.stack([arm.by_seed("client_test", client) for client in clients])
        of_servers = [
            summary(arm.by_seed("server_test", model)) if model in arm.models("server_test") else "–"
            for model in servers
        ]
        means = [summary(values) for values in (*of_clients, of_clients.mean(axis=0))]
        print_row([arm.name, str(len(arm.seeds)), *means, *of_servers])
    print()
    print_row([f"{arms[0].name} −", "seeds", *clients, "all clients"])
    print_row(["---"] * (len(clients) + 3))
    for other in arms[1:]:
        seeds = [seed for seed in arms[0].seeds if seed in other.seeds]
        parts = [[client] for client in clients]
        print_row(
            [
                other.name,
                str(len(seeds)),
                *(difference(arms[0], other, part, seeds) for part in [*parts, clients]),
            ]
        )


def summary(values: Floats) -> str:
    """Return mean ± sd over seeds; the mean alone of one seed."""
    return (
        f"{values.mean():.3f}" if len(values) == 1 else f"{values.mean():.3f} ± {np.std(values, ddof=1):.3f}"
    )


def difference(ours: Arm, theirs: Arm, clients: Sequence[str], seeds: Sequence[int]) -> str:
    """Return the mean paired difference over the clients' cases, with its limits."""
    cases = [case for case in ours.dice if case[0] == "client_test" and case[1] in clients]
    gains = [[ours.dice[case][seed] - theirs.dice[case][seed] for case in cases] for seed in seeds]
    found = bootstrap_interval(gains, [ours.patients[case] for case in cases], seed=0)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def print_row(cells: Iterable[str]) -> None:
    """Print one row of a Markdown table."""
    print("|" + "|".join(f" {cell} " for cell in cells) + "|")


if __name__ == "__main__":
    main()
