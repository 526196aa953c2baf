"""What happens in a ServerApp's process, told to the one that started the run, through a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.events import (
    ClientAsked,
    ClientDone,
    ClientJoined,
    Event,
    FederationStarted,
    NodeRejected,
    RoundDone,
    Waiting,
)
from flames_cli.store.files.jsonl import Tail, append_line

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ClientAsked,
        ClientDone,
        ClientJoined,
        FederationStarted,
        NodeRejected,
        RoundDone,
        Waiting,
    )
}
"""Events that a server tells; the others are of the process that shows them."""

_BEGUN = "begun"
_ENDED = "ended"


class Lost(FlamesError):
    """A run's process died, or lost its SuperLink; the run may go on after its last whole round."""

    run_id: int | None = None
    """Of the SuperLink, where it got so far."""


class EventLog:
    """Writes events, and at last how the run ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Tell `event`."""
        if type(event).__name__ in _KINDS:
            append_line(self._path, {"event": type(event).__name__, **asdict(event)})

    def begin(self) -> None:
        """Tell that the run's process is at work, and holds its lock."""
        append_line(self._path, {"event": _BEGUN})

    def end(self, problem: str = "", exit_code: int = 0, lost: bool = False) -> None:
        """Tell that the run is over, and why where it failed; `lost`: by something that passes."""
        append_line(self._path, {"event": _ENDED, "problem": problem, "exit_code": exit_code, "lost": lost})


class EventReader:
    """Reads what an `EventLog` writes."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._end: dict[str, Any] | None = None
        self.begun = False
        """Whether the run's process has told that it is at work."""

    @property
    def ended(self) -> bool:
        """Whether the run is over, as far as it has been read."""
        return self._end is not None

    def read(self) -> list[Event]:
        """The new events."""
        events = []
        for record in self._tail.read():
            kind = record.pop("event")
            if kind == _BEGUN:
                self.begun = True
            elif kind == _ENDED:
                self._end = record
            else:
                events.append(_event(kind, record))
        return events

    def raise_problem(self) -> None:
        """Fail as the run did.

        Raises:
            Lost: it ended by something that passes.
            FlamesError: it ended so.
            RuntimeError: it ended by a fault in the program.
        """
        if self._end and self._end["problem"]:
            if self._end["lost"]:
                raise Lost(self._end["problem"])
            kinds: dict[int, type[Exception]] = {
                kind.exit_code: kind for kind in (FlamesError, MissingArtifact)
            }
            raise kinds.get(self._end["exit_code"], RuntimeError)(self._end["problem"])


def _event(kind: str, fields: dict[str, Any]) -> Event:
    if kind == FederationStarted.__name__:
        fields["clients"] = tuple((name, modality, n) for name, modality, n in fields["clients"])
    return _KINDS[kind](**fields)
