"""The interface of a blend: it takes reports one at a time and makes models from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Report
from flames_cli.core.federated.shelf import IN_MEMORY, Shelf


class Blend(ABC):
    """A blend of one model group: takes one or more good reports, in any order, then makes the models.

    A plug-in's class is called with (start, entries, weight): the group's complete model before the round,
    the roles of its entries, and the algorithm's weight of a report. It sees read-only arrays. The reports
    that it stores for the end of the round belong on the `shelf`: the memory may be too small for all.
    """

    needs_steps: ClassVar[bool] = False
    """True if a report can be used only with its number of steps; others are then rejected."""
    group: str = ""
    """Name of the model group; it is set before the first report, as `round` and `shelf` are."""
    round: int = 0
    """Number of the round, from 1."""
    n_clients: int = 0
    """Number of the group's clients, including those that do not report; it is set before `server`."""
    shelf: Shelf = IN_MEMORY
    """Place for reports until the end of the round: `load = self.shelf.keep_report(report.weights)`."""

    def load_state(self, state: Weights) -> None:  # noqa: B027 (most blends have none)
        """Take what `state` returned after the group's last round with a report; not called before that."""

    def rejection_reason(self, report: Report) -> str | None:  # noqa: ARG002 (subclasses use it)
        """Return why this blend cannot use a report that is valid in itself; None if it can."""
        return None

    @abstractmethod
    def add(self, report: Report) -> None:
        """Add a report."""

    def shortage(self) -> str | None:
        """Return why there are too few reports to blend; None if there are enough."""
        return None

    @abstractmethod
    def server(self) -> Weights:
        """Return the blend of the reported entries: the group's new model."""

    def personal(self) -> Mapping[str, Weights]:
        """Return the entries that differ from client to client, by client."""
        return {}

    def state(self) -> Weights:
        """Return the arrays that the server stores for the group's next round, by any name; called last."""
        return {}
