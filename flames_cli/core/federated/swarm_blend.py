"""The blend of a swarm: each peer blends its own report with those that it hears from its neighbours.

No sum over all peers is part of a peer's model. The model of the group is the mean of the round's reports, as
an observer of all peers would make it; it is evaluated, and nobody trains it.
"""

from collections.abc import Callable, Mapping, Sequence

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm, Weight
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.flames_sums import FlamesSums
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import weighted_mean
from flames_cli.core.federated.shelf import ClientModels, Load, Shelf, StoredModels
from flames_cli.core.federated.topology import Graph


class SwarmBlend(Blend):
    """A model for each peer, made from what it hears; stores every report while a neighbour needs it."""

    def __init__(self, algorithm: Algorithm, graph: Graph, shelf: Shelf) -> None:
        self._by_flames = algorithm.blend == "flames"
        self._weight: Weight = "uniform" if self._by_flames else algorithm.weight
        self._graph = graph
        self._shelf = shelf
        self._reports: dict[str, tuple[Report, Load]] = {}

    def rejection_reason(self, report: Report) -> str | None:
        """Return why the report cannot be used: its sender is no peer of this group."""
        known = report.client in self._graph
        return None if known else "it is no peer of this swarm; start the run again with --fresh"

    def add(self, report: Report) -> None:
        """Store the report."""
        load = self._shelf.keep_report(report.weights)
        rest = Report(report.client, report.modality, {}, report.n_examples, report.n_steps)
        self._reports[report.client] = rest, load

    def server(self) -> Weights:
        """Return the mean of the round's reports, which an observer of all peers could make."""
        return self._mean(sorted(self._reports))

    def personal(self) -> Mapping[str, Weights]:
        """Return each peer's blend of its own report and those that it hears; call it last."""
        heard = who_hears(self._graph, self._reports)
        last_use = {name: client for client, names in heard.items() for name in names}
        models: dict[str, Load] = {}
        before: tuple[str, ...] = ()
        for client, names in heard.items():
            if names != before:  # peers that hear the same reports compute the same
                before, make = names, self._blend_of(names)
            models[client] = self._shelf.keep_model(make(client))
            for name in names:
                if last_use[name] == client:
                    del self._reports[name]
        return ClientModels(models)

    def _blend_of(self, names: Sequence[str]) -> Callable[[str], Weights]:
        """Return the function that makes a peer's model from the reports called `names`."""
        if not self._by_flames:
            mean = self._mean(names)
            return lambda _: mean
        sums = FlamesSums(self._models(names), [self._n(name) for name in names])
        return lambda client: sums.personalise(self._reports[client][1](), self._n(client))

    def _mean(self, names: Sequence[str]) -> Weights:
        reports = [self._reports[name][0] for name in names]
        by_kind = {
            "examples": [one.n_examples for one in reports],
            "steps": [one.n_steps for one in reports],
            "uniform": [1] * len(reports),
        }
        return weighted_mean(self._models(names), [float(count) for count in by_kind[self._weight]])

    def _models(self, names: Sequence[str]) -> StoredModels:
        return StoredModels([self._reports[name][1] for name in names])

    def _n(self, name: str) -> int:
        return self._reports[name][0].n_examples


def who_hears(graph: Graph, reports: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Return, for each peer with a report, the peers whose reports it has, itself included; all sorted."""
    return {
        client: tuple(sorted(name for name in (client, *graph[client]) if name in reports))
        for client in sorted(reports)
    }
