"""Events of a ServerApp's process, passed through a file to the process that started the run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.events import (
    ClientAsked,
    ClientJoined,
    Event,
    FederationStarted,
    FinalModelsExamined,
    ModalityDone,
    NodeRejected,
    Noted,
    ReportReceived,
    ReportRejected,
    RoundDone,
    Waiting,
)
from flames_cli.store.files.jsonl import Tail, append_line

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ClientAsked,
        ClientJoined,
        FederationStarted,
        FinalModelsExamined,
        ModalityDone,
        NodeRejected,
        Noted,
        ReportReceived,
        ReportRejected,
        RoundDone,
        Waiting,
    )
}
"""Events that a server logs; the other events arise in the process that shows them."""

_BEGUN = "begun"
_ENDED = "ended"


class Lost(FlamesError):
    """A run's process died, or lost its SuperLink; the run can continue after its last complete round."""

    run_id: int | None = None
    """Number of the run at the SuperLink; None: the run was not submitted."""


class EventLog:
    """Writes events to a file and, at last, how the run ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Write `event`, if it is one that a server logs."""
        if type(event).__name__ in _KINDS:
            append_line(self._path, {"event": type(event).__name__, **asdict(event)})

    def begin(self) -> None:
        """Write that the run's process is working and has its lock."""
        append_line(self._path, {"event": _BEGUN})

    def end(self, problem: str = "", exit_code: int = 0, lost: bool = False) -> None:
        """Write that the run has ended.

        Args:
            problem: reason for the end, if the run failed; empty if it succeeded.
            exit_code: exit code of the error class; see `FlamesError`.
            lost: True if the cause is temporary, so that the run can be started again.
        """
        append_line(self._path, {"event": _ENDED, "problem": problem, "exit_code": exit_code, "lost": lost})


class EventReader:
    """Reads the file that an `EventLog` writes."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._end: dict[str, Any] | None = None
        self.begun = False
        """True once the run's process has written that it is working."""

    @property
    def ended(self) -> bool:
        """True if the run has ended, according to what was read so far."""
        return self._end is not None

    def read(self) -> list[Event]:
        """Return the events that were written since the last call."""
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
        """Raise the error with which the run ended, if it failed.

        Raises:
            Lost: the cause is temporary.
            FlamesError: the run ended with this error.
            RuntimeError: a bug in the program ended the run.
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
