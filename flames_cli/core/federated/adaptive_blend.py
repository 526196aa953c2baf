"""The blend of flames-adaptive: the server stores every client's own weights, and each client blends."""

from flames_cli.arrays import Weights
from flames_cli.core.federated.blend import Blend
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.running_sum import plain_mean


class AdaptiveBlend(Blend):
    """The plain mean, as in FLAMES, and every client's own weights for the next round's candidates."""

    def __init__(self) -> None:
        self._own: dict[str, Weights] = {}

    def add(self, report: Report) -> None:
        """Store the report's weights."""
        self._own[report.client] = report.weights

    def server(self) -> Weights:
        """Return the plain mean, summed in order of the clients' names."""
        return plain_mean([self._own[client] for client in sorted(self._own)])

    def personal(self) -> dict[str, Weights]:
        """Return the clients' own weights."""
        return self._own
