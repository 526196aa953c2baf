"""The interface of a blend: it takes reports one at a time and makes models from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Report


class Blend(ABC):
    """A blend of one model group: takes one or more good reports, in any order, then makes the models."""

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
