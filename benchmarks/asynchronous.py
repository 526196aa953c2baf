"""Test Dice over time with one slow client: rounds without waiting against rounds in step.

    python benchmarks/asynchronous.py --workspace flames-workspace
    python benchmarks/asynchronous.py --workspace flames-workspace --slow otu2d-3 busi none \\
        --strategies flames fedavg-modality --rounds 8 --seeds 0 1 2 --figure docs/images/asynchronous.png

The clients are those of the partition, or those of `--clients`, and of one modality. A case of `--slow` is a
client that is `--factor` times slower than the others, or `none`. Time is that of the virtual clock: a
training step takes one second, and a round in step as long as its slowest client. Both ways get the time of
`--rounds` rounds in step; with `none`, of twice as many. The newest models at eight times are scored on the
clients' own test images, each client with its own model, whose statistics of BatchNorm are estimated on its
training images.

`clients` is the mean over the clients, `slow` the slow client; `trainings` is the number of trainings of all
clients. All figures are means over seeds. A repeated call continues where the last one stopped.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from flames_cli.config import FederateConfig
from flames_cli.core.scores.metrics import dice
from flames_cli.fed.virtual_clock import VirtualClock
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import ClientEntry, checked_shard, read_partition
from flames_cli.store.runs import run_folder
from flames_cli.store.workspace import partition_file, partition_folder

MODEL: dict[str, Any] = {
    "model": "unet",
    "model_options": {"base_channels": 4, "depth": 2},
    "batch_size": 8,
    "lr": 2e-3,
    "keep_epoch": "last",
    "precise_norm": False,
}
NONE = "none"
POINTS = 8
"""Number of times at which models are scored."""
WAYS = ("in step", "asynchronous")
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of the table."""

    slow: str
    """Slow client, or `none`."""
    strategy: str
    way: str
    seed: int

    @property
    def run(self) -> str:
        """Name of the run."""
        return f"{self.way.replace(' ', '-')}-{self.strategy}-slow-{self.slow}-seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class Point:
    """Test Dice of the newest models at one time."""

    seconds: float
    dice: Mapping[str, float]
    """Dice of each client."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A run's Dice over time, and its number of trainings."""

    points: Sequence[Point]
    trainings: int


def main() -> None:
    """Run what is missing, print the table, and draw the figure."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    arms = [Arm(*one) for one in product(options.slow, options.strategies, WAYS, options.seeds)]
    found = {}
    for arm in arms:
        found[arm] = bench.recall(arm)
        last = found[arm].points[-1]
        print(
            f"{arm.run}: {found[arm].trainings} trainings, Dice {fmean(last.dice.values()):.3f}", flush=True
        )
    for line in table(found):
        print(line)
    if options.figure:
        draw(found, options.figure)


def parse_options() -> argparse.Namespace:
    """Return the options of the command line; the default is a short run, for a first look."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True, help="folder with a partition")
    parser.add_argument("--clients", nargs="+", default=[], help="clients that take part; default: all")
    parser.add_argument("--slow", nargs="+", default=[NONE], metavar="CLIENT", help="slow client, or none")
    parser.add_argument("--factor", type=float, default=10.0, help="how many times slower it is")
    parser.add_argument("--strategies", nargs="+", default=["flames"])
    parser.add_argument("--buffer", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="rounds in step that the time suffices for")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="PNG file of the figure")
    return parser.parse_args()


class Bench:
    """Trains runs, and scores their models at several times."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        folder = partition_folder(options.workspace)
        there = read_partition(partition_file(options.workspace)).clients
        self._clients = [one for one in there if not options.clients or one.name in options.clients]
        self._shards = {client.name: checked_shard(folder, client) for client in self._clients}
        self._segmenter = Segmenter(
            MODEL["model"], options_for(1, MODEL["model_options"]), "cpu", "fp32", batch_size=64
        )
        self._model = build_model(MODEL["model"], seed=0, **options_for(1, MODEL["model_options"]))

    def recall(self, arm: Arm) -> Curve:
        """Return the figures of a run, which are stored beside the runs."""
        names = ("clients", "factor", "buffer", "rounds")
        how = {name: getattr(self._options, name) for name in names}
        file = self._options.workspace / "asynchronous" / f"{arm.run}.json"
        if file.is_file() and (stored := json.loads(file.read_text()))["how"] == how:
            return Curve([Point(**point) for point in stored["points"]], stored["trainings"])
        curve = self.measure(arm)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"how": how, **asdict(curve)}))
        return curve

    def measure(self, arm: Arm) -> Curve:
        """Train one run, and return its Dice over time."""
        slow = {} if arm.slow == NONE else {arm.slow: self._options.factor}
        clock = VirtualClock(arm.seed, slow, jitter=0.1)
        rounds = self._options.rounds * (2 if arm.slow == NONE else 1)
        ends = [*self._ends_in_step(clock, rounds)]
        if arm.way == WAYS[0]:
            self._train(arm, rounds, {})
            return self._score(arm, ends, ends[-1], rounds * len(self._clients))
        options = {"asynchronous": True, "buffer": self._options.buffer, "slow": slow}
        records = self._train(arm, self._most_versions(clock, ends[-1]), options)
        times = [record["clock_seconds"] for record in records]
        done = [record for record in records if record["clock_seconds"] <= ends[-1]]
        trainings = sum(len(client["staleness"]) for record in done for client in record["clients"])
        return self._score(arm, times, ends[-1], trainings)

    def _ends_in_step(self, clock: VirtualClock, rounds: int) -> Iterator[float]:
        """Yield the times at which rounds in step end."""
        seconds = 0.0
        for round_ in range(1, rounds + 1):
            seconds += max(clock.duration(one.name, round_, steps_of(one)) for one in self._clients)
            yield seconds

    def _most_versions(self, clock: VirtualClock, seconds: float) -> int:
        """Return a number of versions that takes `seconds` or more."""
        rate = sum(1 / (steps_of(one) * clock.slow.get(one.name, 1.0)) for one in self._clients)
        return math.ceil(seconds * rate / (1 - clock.jitter) / min(self._options.buffer, len(self._clients)))

    def _train(self, arm: Arm, rounds: int, more: Mapping[str, Any]) -> list[dict[str, Any]]:
        config = FederateConfig(
            workspace=self._options.workspace,
            device="cpu",
            strategy=arm.strategy,
            run=arm.run,
            seed=arm.seed,
            clients=tuple(self._options.clients),
            rounds=rounds,
            keep_rounds=rounds,
            **MODEL,
            **more,
        )
        return federate(config).records

    def _score(self, arm: Arm, times: Sequence[float], ends: float, trainings: int) -> Curve:
        points, known = [], dict[int, Mapping[str, float]]()
        for number in range(1, POINTS + 1):
            seconds = ends * number / POINTS
            round_ = sum(time <= seconds + 1e-9 for time in times)
            if round_ and round_ not in known:
                known[round_] = {one.name: self._dice(arm, round_, one) for one in self._clients}
            if round_:
                points.append(Point(seconds, known[round_]))
        return Curve(points, trainings)

    def _dice(self, arm: Arm, round_: int, client: ClientEntry) -> float:
        """Return the mean Dice of a client's own model on its test images."""
        state = load_state(run_folder(self._options.workspace, arm.run).checkpoints, round_)
        weights = state.model_for(client.name, client.modality)
        train, test = (
            ShardDataset(read_shard_sets(self._shards[client.name], split)) for split in ("train", "test")
        )
        weights = estimate_statistics(self._model, weights, train, 64, CPU, "fp32")
        masks = self._segmenter.masks(weights, test)
        return fmean(dice(mask, test.mask(case)) for case, mask in enumerate(masks))


def steps_of(client: ClientEntry) -> int:
    """Return the number of steps of a client's training."""
    return math.ceil(client.images["train"] / MODEL["batch_size"])


def table(found: Mapping[Arm, Curve]) -> list[str]:
    """Return the lines of a table in Markdown: mean ± standard deviation over seeds."""
    parts = (0.25, 0.5, 1.0)
    columns = [f"{who} at {part:.0%}" for who in ("clients", "slow") for part in parts]
    lines = [
        f"| slow | strategy | way | trainings | {' | '.join(columns)} |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for slow, strategy, way in dict.fromkeys((arm.slow, arm.strategy, arm.way) for arm in found):
        own = [
            one for arm, one in found.items() if (arm.slow, arm.strategy, arm.way) == (slow, strategy, way)
        ]
        cells = [
            spread([mean_at(curve, part, slow if who == "slow" else "") for curve in own])
            for who in ("clients", "slow")
            for part in parts
        ]
        trainings = fmean(curve.trainings for curve in own)
        lines.append(f"| {slow} | {strategy} | {way} | {trainings:.0f} | {' | '.join(cells)} |")
    return lines


def mean_at(curve: Curve, part: float, client: str = "") -> float | None:
    """Return the Dice after a part of the time: of one client, or the mean over clients; None without one."""
    ends = curve.points[-1].seconds
    past = [point for point in curve.points if point.seconds <= part * ends + 1e-9]
    if not past or client == NONE:
        return None
    return past[-1].dice[client] if client else fmean(past[-1].dice.values())


def spread(values: Sequence[float | None]) -> str:
    """Return the mean and, of several values, the standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{fmean(known):.3f} ± {stdev(known):.3f}" if len(known) > 1 else f"{known[0]:.3f}"


def draw(found: Mapping[Arm, Curve], path: Path) -> None:
    """Draw the Dice over time: a row for each strategy, a column for each slow client."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases, strategies = (
        list(dict.fromkeys(getattr(arm, name) for arm in found)) for name in ("slow", "strategy")
    )
    figure, axes = plt.subplots(
        len(strategies), len(cases), figsize=(4 * len(cases), 3 * len(strategies)), squeeze=False, sharey=True
    )
    for (row, strategy), (column, slow) in product(enumerate(strategies), enumerate(cases)):
        axis = axes[row][column]
        for way, colour in zip(WAYS, ("tab:blue", "tab:orange"), strict=True):
            curves = [
                one
                for arm, one in found.items()
                if (arm.slow, arm.strategy, arm.way) == (slow, strategy, way)
            ]
            for client, style in (("", "-"), *(((slow, ":"),) if slow != NONE else ())):
                times, means = mean_curve(curves, client)
                label = f"{way}, {'mean of clients' if not client else 'slow client'}"
                axis.plot(times, means, style, color=colour, marker=".", label=label)
        axis.set_title(f"{strategy}, {'equal speed' if slow == NONE else f'{slow} is slow'}", fontsize=10)
        axis.grid(alpha=0.3)
        if row == len(strategies) - 1:
            axis.set_xlabel("virtual time (s)")
        if column == 0:
            axis.set_ylabel("test Dice")
    figure.legend(
        *max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda one: len(one[1])),
        fontsize=8,
        loc="lower center",
        ncol=4,
    )
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=110)


def mean_curve(curves: Sequence[Curve], client: str) -> tuple[list[float], list[float]]:
    """Return times and mean Dice over curves, at those times at which each of them has models."""
    numbers = range(min(len(curve.points) for curve in curves))
    last = [list(reversed(curve.points)) for curve in curves]
    times = [fmean(points[number].seconds for points in last) for number in numbers]
    values = [
        fmean(
            points[number].dice[client] if client else fmean(points[number].dice.values()) for points in last
        )
        for number in numbers
    ]
    return times[::-1], values[::-1]


if __name__ == "__main__":
    main()
