"""The other blends, and the choice of one: reports of a group become its model and its clients' entries."""

from collections.abc import Mapping

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.core.federated.adaptive_blend import AdaptiveBlend
from flames_cli.core.federated.aged_flames_blend import Aged, AgedFlamesBlend
from flames_cli.core.federated.algorithm import BLENDS, Algorithm, Weight
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.flames_blend import FlamesBlend
from flames_cli.core.federated.plugin_blend import Place, PluginBlend
from flames_cli.core.federated.privacy import PrivateMean, Release
from flames_cli.core.federated.reports import Entries, Report, select
from flames_cli.core.federated.robust import robust_mean, shortage
from flames_cli.core.federated.running_sum import RunningSum, cast
from flames_cli.core.federated.shelf import IN_MEMORY, Load, Shelf


class MeanBlend(Blend):
    """The weighted mean; FedAvg if a report's weight is its number of examples (McMahan et al. 2017)."""

    def __init__(self, start: Weights, entries: Entries, weight: Weight) -> None:
        self._start = entries.shared_of(start)
        self._weight = weight
        self._sum = RunningSum()

    def add(self, report: Report) -> None:
        """Add the report with its weight."""
        counts = {"examples": report.n_examples, "steps": report.n_steps, "uniform": 1}
        self._sum.add(report.weights, float(counts[self._weight]))

    def server(self) -> Weights:
        """Return the mean."""
        return self._sum.mean(self._start)


class FedBNBlend(MeanBlend):
    """The weighted mean, while every client has its own BatchNorm (Li et al. 2021, FedBN).

    The server's model contains the mean BatchNorm of all clients, for clients that have never taken part.
    """

    def __init__(self, start: Weights, entries: Entries, weight: Weight) -> None:
        super().__init__(start, entries, weight)
        self._norm = entries.norm
        self._personal: dict[str, Weights] = {}

    def add(self, report: Report) -> None:
        """Add the report to the mean, and store only its BatchNorm."""
        super().add(report)
        own = select(report.weights, self._norm)
        self._personal[report.client] = {name: array.copy() for name, array in own.items()}

    def personal(self) -> Mapping[str, Weights]:
        """Return every client's BatchNorm."""
        return self._personal


class FedNovaBlend(Blend):
    """Mean of updates normalised by their number of steps (Wang et al. 2020, FedNova, with plain SGD's a).

    With dᵢ = (w − wᵢ)/τᵢ and pᵢ = nᵢ/Σn, w ← w − (Σpᵢτᵢ)·Σpᵢdᵢ. As running sums: a step of length
    (Σnᵢτᵢ)(Σnᵢ/τᵢ)/(Σn)², which is 1 if all τᵢ are equal, towards the mean weighted by nᵢ/τᵢ.
    Buffers are the mean weighted by nᵢ.
    """

    def __init__(self, start: Weights, entries: Entries) -> None:
        self._start = entries.shared_of(start)
        self._trainable = entries.trainable
        self._by_pace, self._by_examples = RunningSum(), RunningSum()
        self._work = 0.0

    def add(self, report: Report) -> None:
        """Add parameters weighted by nᵢ/τᵢ, and the other entries weighted by nᵢ."""
        n, steps = float(report.n_examples), float(report.n_steps)
        self._by_pace.add(select(report.weights, self._trainable), n / steps)
        buffers = {name: array for name, array in report.weights.items() if name not in self._trainable}
        self._by_examples.add(buffers, n)
        self._work += n * steps

    def server(self) -> Weights:
        """Return the parameters after the step and the mean of the other entries, in the model's order."""
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
    """A mean that tolerates bad reports (see `robust`); stores every report."""

    def __init__(self, start: Weights, entries: Entries, algorithm: Algorithm, shelf: Shelf) -> None:
        self._shelf = shelf
        self._start = entries.shared_of(start)
        self._kind, self._bad = algorithm.aggregation, algorithm.bad_clients
        self._reports: dict[str, Load] = {}

    def add(self, report: Report) -> None:
        """Store the report's weights."""
        self._reports[report.client] = self._shelf.keep_report(report.weights)

    def server(self) -> Weights:
        """Return the mean, taken in order of clients' names: the order of arrival does not change it."""
        models = [self._reports[client]() for client in sorted(self._reports)]
        return robust_mean(self._kind, models, self._start, self._bad)

    def shortage(self) -> str | None:
        """Return why this kind of mean needs more reports; None if there are enough."""
        return shortage(self._kind, len(self._reports), self._bad)


def make_blend(
    algorithm: Algorithm,
    start: Weights,
    entries: Entries,
    release: Release | None = None,
    shelf: Shelf = IN_MEMORY,
    place: Place = Place(),  # noqa: B008 (it is frozen)
    aged: Aged | None = None,
) -> Blend:
    """Return the blend of `algorithm` for a group whose model is `start`; privacy needs a `release`, a
    plug-in's class the `place` of the blend, and FLAMES in an asynchronous federation the `aged` reports.

    Raises:
        ValueError: an algorithm with privacy has no release to draw noise for, or does not take a mean; or
            the blend has no such name.
        FlamesError: a plug-in's class fails.
    """
    if algorithm.aggregation != "mean":
        return RobustBlend(start, entries, algorithm, shelf)
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
            return AgedFlamesBlend(shelf, aged) if aged else FlamesBlend(shelf)
        case "adaptive":
            return AdaptiveBlend(shelf)
        case "fednova":
            return FedNovaBlend(start, entries)
        case str():
            raise ValueError(f"got blend {algorithm.blend!r}, expected a class or one of {BLENDS}")
        case _:
            return PluginBlend(algorithm, start, entries, place, shelf)
