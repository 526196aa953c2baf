"""The blends: how one group's reports, as they come, become its model and its clients' own entries."""

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm, Weight
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.flames_blend import FlamesSums
from flames_cli.core.federated.privacy import PrivateMean, Release
from flames_cli.core.federated.reports import Entries, Report, select
from flames_cli.core.federated.robust import robust_mean, shortage
from flames_cli.core.federated.running_sum import RunningSum, cast


class MeanBlend(Blend):
    """The weighted mean: FedAvg where a report weighs its examples (McMahan et al. 2017)."""

    def __init__(self, start: Weights, entries: Entries, weight: Weight) -> None:
        self._start = entries.shared_of(start)
        self._weight = weight
        self._sum = RunningSum()

    def add(self, report: Report) -> None:
        """Add the report's weights, times what it counts."""
        counts = {"examples": report.n_examples, "steps": report.n_steps, "uniform": 1}
        self._sum.add(report.weights, float(counts[self._weight]))

    def server(self) -> Weights:
        """The mean."""
        return self._sum.mean(self._start)


class FedBNBlend(MeanBlend):
    """The weighted mean, beside which every client keeps its own BatchNorm (Li et al. 2021, FedBN).

    The server's model holds everybody's mean BatchNorm, for clients that have never taken part.
    """

    def __init__(self, start: Weights, entries: Entries, weight: Weight) -> None:
        super().__init__(start, entries, weight)
        self._norm = entries.norm
        self._personal: dict[str, Weights] = {}

    def add(self, report: Report) -> None:
        """Add to the mean; of the report itself only BatchNorm is kept."""
        super().add(report)
        own = select(report.weights, self._norm)
        self._personal[report.client] = {name: array.copy() for name, array in own.items()}

    def personal(self) -> dict[str, Weights]:
        """Every client's BatchNorm."""
        return self._personal


class FlamesBlend(Blend):
    """A personalised model for each client; keeps every report, for each becomes one (FLAMES, section 4)."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._blended: tuple[dict[str, Weights], Weights] | None = None

    def add(self, report: Report) -> None:
        """Keep the report."""
        self._reports.append(report)

    def server(self) -> Weights:
        """The plain mean."""
        return self._blend()[1]

    def personal(self) -> dict[str, Weights]:
        """Each client's blend of its own weights and the others'."""
        return self._blend()[0]

    def _blend(self) -> tuple[dict[str, Weights], Weights]:
        if self._blended is None:
            # In order of name, so that the order of arrival cannot change a rounding.
            self._reports.sort(key=lambda report: report.client)
            counts = [report.n_examples for report in self._reports]
            sums = FlamesSums([report.weights for report in self._reports], counts)
            server, personal = sums.mean(self._reports[0].weights), {}
            while self._reports:  # each is let go as its model is made, or memory would hold all twice
                report = self._reports.pop(0)
                personal[report.client] = sums.personalise(report.weights, report.n_examples)
            self._blended = personal, server
        return self._blended


class FedNovaBlend(Blend):
    """Updates count by step, however many steps a client makes (Wang et al. 2020, FedNova, plain SGD's a).

    With dᵢ = (w − wᵢ)/τᵢ and pᵢ = nᵢ/Σn, w ← w − (Σpᵢτᵢ)·Σpᵢdᵢ. In running sums: a step of length
    (Σnᵢτᵢ)(Σnᵢ/τᵢ)/(Σn)², which is 1 where all τᵢ are equal, to the mean by nᵢ/τᵢ.
    Buffers are the mean by nᵢ.
    """

    def __init__(self, start: Weights, entries: Entries) -> None:
        self._start = entries.shared_of(start)
        self._trainable = entries.trainable
        self._by_pace, self._by_examples = RunningSum(), RunningSum()
        self._work = 0.0

    def add(self, report: Report) -> None:
        """Add parameters by nᵢ/τᵢ, the other entries by nᵢ."""
        n, steps = float(report.n_examples), float(report.n_steps)
        self._by_pace.add(select(report.weights, self._trainable), n / steps)
        buffers = {name: array for name, array in report.weights.items() if name not in self._trainable}
        self._by_examples.add(buffers, n)
        self._work += n * steps

    def server(self) -> Weights:
        """Parameters after the step, the mean of the other entries; in the order of the model."""
        buffers = {name: array for name, array in self._start.items() if name not in self._trainable}
        blended = {**self._step(), **self._by_examples.mean(buffers)}
        return {name: blended[name] for name in self._start}

    def _step(self) -> Weights:
        pace = self._by_pace.total
        length = self._work * pace / self._by_examples.total**2
        stepped = {}
        for name, array in select(self._start, self._trainable).items():
            start = array.astype(np.float64)
            stepped[name] = cast(start + length * (self._by_pace[name] / pace - start), array.dtype)
        return stepped


class RobustBlend(Blend):
    """A mean that bears bad reports (`core.robust`); keeps every report."""

    def __init__(self, start: Weights, entries: Entries, algorithm: Algorithm) -> None:
        self._start = entries.shared_of(start)
        self._kind, self._bad = algorithm.aggregation, algorithm.bad_clients
        self._reports: dict[str, Weights] = {}

    def add(self, report: Report) -> None:
        """Keep the report's weights."""
        self._reports[report.client] = report.weights

    def server(self) -> Weights:
        """The mean, in the order of clients' names so that the order of arrival cannot change it."""
        models = [self._reports[client] for client in sorted(self._reports)]
        return robust_mean(self._kind, models, self._start, self._bad)

    def shortage(self) -> str | None:
        """As `robust.lacks`."""
        return shortage(self._kind, len(self._reports), self._bad)


def make_blend(
    algorithm: Algorithm, start: Weights, entries: Entries, release: Release | None = None
) -> Blend:
    """The blend of `algorithm` for a group whose model is `start`; `release` is needed for privacy.

    Raises:
        ValueError: an algorithm with privacy has no noise to release models with, or does not average.
    """
    if algorithm.aggregation != "mean":
        return RobustBlend(start, entries, algorithm)
    if algorithm.privacy:
        if release is None or algorithm.blend != "mean":
            raise ValueError("privacy needs a key to draw noise from, and an algorithm that averages")
        return PrivateMean(start, entries, algorithm.privacy, release)
    match algorithm.blend:
        case "mean":
            return MeanBlend(start, entries, algorithm.weight)
        case "fedbn":
            return FedBNBlend(start, entries, algorithm.weight)
        case "flames":
            return FlamesBlend()
        case "fednova":
            return FedNovaBlend(start, entries)
