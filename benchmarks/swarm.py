"""FLAMES with a server against FLAMES in a swarm, over topologies and absences: Dice of the clients.

    python benchmarks/swarm.py --workspace flames-workspace
    python benchmarks/swarm.py --workspace flames-workspace --arms server ring random-3 random-4 full \\
        --absent 0 0.2 0.5 --seeds 0 1 2 --rounds 8 --jobs 2

The workspace is partitioned, best into more than three clients of each modality (`flames partition --split`).
An arm is `server`, a topology, or `random-K` with K neighbours. In the arm `server`, an absence of P means
`--fraction` 1 - P: the same number of clients on average, drawn in each modality. A repeated call continues
where the last one stopped.

The Dice of a client is the one of `flames evaluate`: a mean over complete volumes or images of its own test
patients, after the last round. A modality is the mean over its clients, `clients` the mean over all, and
`outsiders` the mean over modalities of the model for new hospitals: the server's, or an observer's mean of
the last reports. The bytes of a round are those that all clients send: with a server they also receive as
many, and a peer receives what its neighbours send.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from flames_cli.config import EvaluateConfig, FederateConfig
from flames_cli.stages.evaluate.stage import evaluate
from flames_cli.stages.federate.stage import federate

MODEL: dict[str, Any] = {
    "model": "unet",
    "model_options": {"base_channels": 4, "depth": 3},
    "batch_size": 8,
    "lr": 2e-3,
    "keep_epoch": "last",
}


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of the table."""

    name: str
    absent: float
    seed: int

    @property
    def run(self) -> str:
        """Name of the run."""
        return f"{self.name}-absent-{self.absent:g}-seed-{self.seed}"

    @property
    def options(self) -> dict[str, Any]:
        """Options of `flames federate` that differ between arms."""
        if self.name == "server":
            return {"fraction": 1 - self.absent}
        kind, _, number = self.name.partition("-")
        neighbours = {"neighbours": int(number)} if number else {}
        return {"engine": "swarm", "topology": kind, "absent": self.absent, **neighbours}


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one run."""

    dice: dict[str, float]
    """Dice by modality, of all `clients`, and of the model for `outsiders`."""
    mib: float
    """Mean size in MiB of what all clients send in a round."""
    participation: float
    """Mean share of the clients that take part in a round."""


def main() -> None:
    """Run what is missing, and print the table."""
    options = parse_options()
    arms = [Arm(*one) for one in product(options.arms, options.absent, options.seeds)]
    context = multiprocessing.get_context("spawn")
    work = partial(measure, options.workspace, options.rounds)
    with ProcessPoolExecutor(options.jobs, context) as pool:
        found = dict(zip(arms, pool.map(work, arms), strict=True))
    for line in table(found):
        print(line)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line; the default is a short run, for a first look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True, help="folder with a partition")
    parser.add_argument("--arms", nargs="+", default=["server", "ring", "full"])
    parser.add_argument("--absent", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at the same time")
    return parser.parse_args()


def measure(workspace: Path, rounds: int, arm: Arm) -> Figures:
    """Train and evaluate one run, on one thread of the CPU."""
    torch.set_num_threads(1)
    shared = {"workspace": workspace, "device": "cpu"}
    config = FederateConfig(**shared, run=arm.run, seed=arm.seed, rounds=rounds, **MODEL, **arm.options)
    made = federate(config)
    scored = evaluate(EvaluateConfig(**shared, run=arm.run, round="last", overlays=False))
    rows = scored.tables.splits["client_test"].summary
    by_modality: dict[str, list[float]] = {}
    for row in rows:
        by_modality.setdefault(row.modality, []).append(row.dice.mean)
    outsiders = [row.dice.mean for row in scored.tables.splits["server_test"].summary]
    dice = {modality: mean(values) for modality, values in by_modality.items()}
    dice |= {"clients": mean(row.dice.mean for row in rows), "outsiders": mean(outsiders)}
    print(f"{arm.run}: {' '.join(f'{name} {value:.3f}' for name, value in dice.items())}", flush=True)
    clients = len({row.label for row in rows})
    return Figures(
        dice=dice,
        mib=mean(record["bytes_up"] for record in made.records) / 2**20,
        participation=mean(len(record["accepted"]) / clients for record in made.records),
    )


def table(found: dict[Arm, Figures]) -> list[str]:
    """Return the lines of a table in Markdown: mean ± standard deviation over seeds."""
    names = [*next(iter(found.values())).dice]
    lines = [
        f"| arm | absent | {' | '.join(names)} | took part | MiB a round |",
        "|---" * (len(names) + 4) + "|",
    ]
    for name, absent in dict.fromkeys((arm.name, arm.absent) for arm in found):
        own = [one for arm, one in found.items() if (arm.name, arm.absent) == (name, absent)]
        cells = [spread([one.dice[column] for one in own]) for column in names]
        share, mib = mean(one.participation for one in own), mean(one.mib for one in own)
        lines.append(f"| {name} | {absent:g} | {' | '.join(cells)} | {share:.0%} | {mib:.2f} |")
    return lines


def spread(values: list[float]) -> str:
    """Return the mean and, of several values, the standard deviation."""
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
