"""The interface of a blend: reports are added one at a time, and it returns what they amount to."""

from abc import ABC, abstractmethod

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import Report


class Blend(ABC):
    """Takes good reports one at a time, at least one, in any order; then says what they amount to."""

    def rejection_reason(self, report: Report) -> str | None:  # noqa: ARG002 (of those that look)
        """Why a report that is good in itself cannot be taken in, or None."""
        return None

    @abstractmethod
    def add(self, report: Report) -> None:
        """Take in a report."""

    def shortage(self) -> str | None:
        """Why the reports taken in are too few to be blended, or None."""
        return None

    @abstractmethod
    def server(self) -> Weights:
        """The entries reported, blended."""

    def personal(self) -> dict[str, Weights]:
        """By client: the entries that it has of its own from now on."""
        return {}
