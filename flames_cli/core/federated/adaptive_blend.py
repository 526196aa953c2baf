"""The blend of flames-adaptive: the server stores every client's own weights, and each client blends."""

from collections.abc import Mapping

from flames_cli.arrays import Weights
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import plain_mean
from flames_cli.core.federated.shelf import ClientModels, Load, Shelf, StoredModels


class AdaptiveBlend(Blend):
    """The plain mean, as in FLAMES, and every client's own weights for the next round's candidates."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._own: dict[str, Load] = {}

    def add(self, report: Report) -> None:
        """Store the report's weights."""
        self._own[report.client] = self._shelf.keep_model(report.weights)

    def server(self) -> Weights:
        """Return the plain mean, summed in order of the clients' names."""
        return plain_mean(StoredModels([self._own[client] for client in sorted(self._own)]))

    def personal(self) -> Mapping[str, Weights]:
        """Return the clients' own weights."""
        return ClientModels(self._own)
