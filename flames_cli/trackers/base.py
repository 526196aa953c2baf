"""The interface of a tracker."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Figures = Mapping[str, float]
"""Finite numbers by name."""

Status = Literal["finished", "failed", "interrupted"]
"""End of a run."""

PROJECT = "flames"
"""Name under which services list the runs, unless the user sets another in the service's own variable."""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """Facts of a run for its trackers."""

    name: str
    family: str
    """Name of the family, under which services group its runs; empty if the run is not one of several."""
    identity: str
    """16 hex digits by which a continued run is found again; a run that is started again has other ones."""
    folder: Path
    """Folder of the run."""
    workspace: Path
    parameters: Mapping[str, str | int | float | bool]
    """Options of the run and facts about it."""


class Tracker(Protocol):
    """One tracker of one run. Its methods may raise any error; it is not used after one.

    The methods are called in the order in which they are listed, by one thread.
    """

    def start(self, run: TrackedRun) -> int:
        """Begin, or continue a run that is there; return the last round that it has, 0 without any."""

    def round(self, number: int, figures: Figures) -> None:
        """Store the figures of a round."""

    def final(self, number: int, figures: Figures) -> None:
        """Store the figures of the chosen round, after the last round `number`, unless they are there."""

    def finish(self, status: Status) -> None:
        """Store how the run ended, and write everything that is not written yet."""
