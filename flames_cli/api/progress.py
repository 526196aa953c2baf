"""Progress of a call: one type of event, and what makes events of the reports of stages and federations."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flames_cli.api.rounds import Round, make_round
from flames_cli.fed import events
from flames_cli.fed.events import OnEvent
from flames_cli.stages.progress import Progress


@dataclass(frozen=True, slots=True)
class Event:
    """One report of progress, for a bar, a widget or a log."""

    kind: Literal["step", "train", "round", "note"]
    """`step`: a step of a stage. `train`: a training step of a client. `round`: a finished round, which is
    saved. `note`: only a text."""
    task: str
    """Name of the work that `done` and `total` count: a stage with its data set, a client, or a run."""
    done: int = 0
    total: int = 0
    """Number of steps of the task; 0 for a note."""
    text: str = ""
    """One sentence for people; empty for steps."""
    round: int = 0
    """Round of the federation; 0 outside of rounds."""
    record: Round | None = None
    """Figures of a finished round; its `val_dice` is known after the next one."""
    seconds_left: float | None = None
    """Estimate of the time that a federation still takes; None: not known yet."""


Callback: TypeAlias = Callable[[Event], object]
"""Function that receives events, in the thread that does the work. An exception of it ends the call."""


@contextmanager
def stage_progress(callback: Callback | None) -> Iterator[Progress]:
    """Give the function that a stage reports its progress to; it may be called by several threads."""
    lock = threading.Lock()

    def report(task: str, done: int, total: int) -> None:
        if callback:
            with lock:
                callback(Event("step", task, done, total))

    yield report


class FederationProgress:
    """Events of a federation for a callback.

    Training steps are reported from within a client, where an exception would count as the client's. So an
    exception of the callback is raised at the next event of the server, and no result depends on a callback.
    """

    def __init__(self, run: str, callback: Callback | None) -> None:
        self._run, self._callback = run, callback
        self._rounds = 0
        self._seconds_left: float | None = None
        self._fault: Exception | None = None
        self._lock = threading.RLock()

    def __call__(self, event: events.Event) -> None:
        """Receive an event of the federation."""
        if self._callback is None:
            return
        with self._lock:
            if isinstance(event, events.StepDone):
                self._from_client(event)
                return
            if self._fault:
                raise self._fault
            for one in self._convert(event):
                self._callback(one)

    def _from_client(self, event: events.StepDone) -> None:
        if self._callback is None or self._fault:
            return
        made = Event(
            "train", event.client, event.step, event.steps, "", event.round, None, self._seconds_left
        )
        try:
            self._callback(made)
        except Exception as error:
            self._fault = error

    def _convert(self, event: events.Event) -> Iterator[Event]:
        match event:
            case events.FederationStarted():
                self._rounds = event.rounds
                text = f"round {event.first_round} of {event.rounds} begins with {len(event.clients)} clients"
                yield Event("note", self._run, text=text)
            case events.Estimated():
                self._seconds_left = event.seconds_left
            case events.RoundDone():
                record = make_round(self._run, event.record)
                done = record.round
                yield Event("round", self._run, done, self._rounds, "", done, record, self._seconds_left)
            case events.NodeRejected():
                yield Event("note", self._run, text=f"{event.node} may not join: {event.reason}")
            case events.Waiting():
                text = f"the server waits before round {event.round}: {event.missing}"
                yield Event("note", self._run, text=text, round=event.round)
            case events.ReportRejected():
                text = f"the report of {event.client} was rejected: {event.reason}"
                yield Event("note", self._run, text=text, round=event.round)
            case events.Noted():
                yield Event("note", self._run, text=event.note)


def listener(run: str, callback: Callback | None) -> OnEvent:
    """Return the listener of a run's events."""
    return FederationProgress(run, callback)
