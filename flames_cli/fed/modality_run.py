"""A modality's part of a run by modality."""

from dataclasses import dataclass

from flwr.serverapp import Grid

from flames_cli.fed.federation import Federation
from flames_cli.fed.messages import Profile
from flames_cli.fed.roster import Roster


@dataclass(frozen=True, slots=True)
class ModalityRun:
    """A modality's part of a run."""

    modality: str
    grid: Grid
    federation: Federation
    """The federation, whose results are those of this modality."""
    roster: Roster

    def known(self) -> list[Profile]:
        """Return the profiles of this modality's clients that have joined so far, sorted by name."""
        return [profile for profile in self.roster.known if profile.modality == self.modality]
