"""Progress: a live view on a terminal, else lines: one for each round, and one every 30 s."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flames_cli.cli.text import count, duration, epsilon_spent
from flames_cli.core.federated.round_parts import has_groups, scored_parts
from flames_cli.fed.events import (
    ClientAsked,
    ClientJoined,
    Estimated,
    Event,
    FederationStarted,
    FinalModelsExamined,
    LineLogged,
    ModalityDone,
    NodeRejected,
    Noted,
    ReportReceived,
    ReportRejected,
    RoundDone,
    StepDone,
    Waiting,
)
from flames_cli.stages.progress import Progress as OnProgress

COLUMNS: tuple[tuple[str, int, Literal["left", "right"]], ...] = (
    ("client", 8, "left"),
    ("modality", 8, "left"),
    ("images", 6, "right"),
    ("loss", 5, "right"),
    ("received", 8, "right"),
    ("trained", 7, "right"),
    ("state", 18, "left"),
)
"""Columns of the live table: name, smallest width, alignment."""

PROGRESS_SECONDS = 30.0
"""Time between two lines of progress without a terminal: in a log, or in the output of a batch job."""

LONG_SECONDS = 6 * 3600
"""Estimate on a CPU above which the small model is recommended."""


class Pause:
    """Time between two lines of progress."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Begin again."""
        self._began = self._clock()

    def is_over(self) -> bool:
        """Return whether the time is over; it then begins again."""
        over = self._clock() - self._began >= self._seconds
        if over:
            self.begin()
        return over


@contextmanager
def progress_bars(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[OnProgress]:
    """Show one progress bar per task on stderr; without a terminal, a line of the
    present task every 30 s."""
    is_live = console.is_interactive  # a terminal that can move its cursor: no log, and not TERM=dumb
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not is_live,
    ) as bars:
        tasks: dict[str, TaskID] = {}
        pause = Pause(PROGRESS_SECONDS, clock)

        def on_progress(task: str, done: int, total: int) -> None:
            if not is_live and pause.is_over():
                console.print(f"{task}: {done} of {total}", soft_wrap=True)
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total)
            bars.update(tasks[task], completed=done, total=total)

        yield on_progress


class FederationView:
    """Live table of clients and rounds, or one line per round; both with the estimated remaining time.

    Without a terminal, a line also says which client is trained, every 30 s. With `verbose` the lines are
    those of the run's log.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        on_cpu: bool,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._verbose = verbose
        self._pause = Pause(PROGRESS_SECONDS, clock)
        self._title = title
        self._on_cpu = on_cpu
        self._rows: dict[str, dict[str, str]] = {}
        self._round = self._rounds = 0
        self._by_modality: dict[str, int] = {}
        self._left = "measuring the first steps"
        self._spent = ""
        self._warned = False
        live = Live(console=console, transient=True, auto_refresh=False)
        self._live = live if console.is_interactive else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, FederationStarted):
            self._round, self._rounds = event.first_round, event.rounds
            for client, modality, n_train in event.clients:
                self._rows[client] = {"modality": modality, "images": str(n_train)}
                if event.by_modality:
                    self._by_modality[modality] = event.first_round
        elif isinstance(event, ClientJoined):
            self._rows[event.client] = {"modality": event.modality, "images": str(event.n_train)}
        elif isinstance(event, NodeRejected):
            self._say(f"{event.node} cannot join: {event.reason}", "red")
        elif isinstance(event, Noted):
            self._say(event.note)
        elif isinstance(event, Waiting):
            self._left = f"waiting: {event.missing}"
            self._say(
                f"waiting up to {duration(event.seconds)} before round {max(event.round, 1)}: {event.missing}"
            )
        elif isinstance(event, ClientAsked):
            self._note_asked(event)
        elif isinstance(event, StepDone):
            self._round = event.round
            self._rows[event.client]["state"] = f"training {event.step}/{event.steps}"
        elif isinstance(event, ReportReceived):
            self._note_report(event)
        elif isinstance(event, ReportRejected):
            self._note_rejection(event)
        elif isinstance(event, Estimated):
            about = "at least" if event.at_least else "about"
            self._left = f"{about} {duration(event.seconds_left)} left"
            self._warn_if_long(event.seconds_left)
        elif isinstance(event, ModalityDone):
            self._note_done(event.record, event.modality)
        elif isinstance(event, RoundDone):
            self._note_round(event.record)
        elif isinstance(event, FinalModelsExamined):
            self._note_final(event)
        elif isinstance(event, LineLogged) and self._verbose:
            self._print(event.line, "default")
        if self._live:
            self._live.update(self._draw(), refresh=True)
        elif isinstance(event, StepDone | ReportReceived) and self._pause.is_over():
            row = self._rows[event.client]
            # A step without rounds in step has the number of the client's training.
            round_ = self._by_modality.get(row.get("modality", ""), event.round)
            self._print(
                f"{self._title}: round {round_}/{self._rounds}, {event.client}: {row['state']}; {self._left}",
                "default",
            )

    def _say(self, line: str, style: str = "yellow") -> None:
        if not self._verbose:  # the log has it
            self._print(line, style)

    def _print(self, line: str, style: str) -> None:
        self._console.print(Text(line, style=style), soft_wrap=not self._console.is_interactive)

    def _note_rejection(self, event: ReportRejected) -> None:
        row = self._rows[event.client]
        row["state"] = f"rejected: {event.reason}"
        for column in ("loss", "received", "trained"):
            row.pop(column, None)
        self._say(f"round {event.round}: {event.client} was rejected: {event.reason}", "red")

    def _note_report(self, event: ReportReceived) -> None:
        row = self._rows[event.client]
        row["state"] = "done"
        _fill(row, event.metrics)

    def _note_asked(self, event: ClientAsked) -> None:
        self._round, row = event.round, self._rows[event.client]
        row["state"] = "training"
        if self._by_modality:
            self._by_modality[row["modality"]] = event.round

    def _note_round(self, record: Mapping[str, Any]) -> None:
        if not self._by_modality:
            self._note_done(record)
        elif not (self._live or self._verbose):
            done = f"all modalities have done round {record['round']}/{self._rounds}"
            self._console.print(f"{self._title}: {done}", soft_wrap=True)

    def _note_done(self, record: Mapping[str, Any], modality: str = "") -> None:
        """Note a round of all clients, or of those of a modality that does its own rounds."""
        # Without rounds in step, the clients that did not report go on with their training.
        names = [one["client"] for one in record["clients"]] if "clock_seconds" in record else [*self._rows]
        for row in (self._rows[name] for name in names):
            if not modality or row.get("modality") == modality:
                row["state"] = "waiting"
        if has_groups(record):
            for part in scored_parts(record):
                row = self._rows[part["client"]] = {"state": count(part["clients"], "client")}
                _fill(row, part)
        if unchanged := record["unchanged_groups"]:
            self._say(
                f"round {record['round']}: no good report of {', '.join(unchanged)}: the model is unchanged"
            )
        if "epsilon" in record:
            self._spent = epsilon_spent(record)
        self._pause.begin()
        if self._live or self._verbose:
            return
        shown = _mean_dice(scored_parts(record))
        if self._spent:
            shown += f", {self._spent}"
        of_whom = f"{modality} " if modality else ""
        done = f"{of_whom}round {record['round']}/{self._rounds} in {duration(record['seconds'])}"
        self._console.print(f"{self._title}: {done}{shown}", soft_wrap=True)

    def _note_final(self, event: FinalModelsExamined) -> None:
        for row in self._rows.values():
            row["state"] = "done"
        self._note_models("final models", scored_parts(event.record))
        for client, reason in event.record["missing"].items():
            self._say(f"{client} did not report on the final models: {reason}")
        for earlier in event.record.get("earlier", ()):
            self._note_models(f"best earlier round {earlier['round']}", scored_parts(earlier))

    def _note_models(self, what: str, parts: Sequence[Mapping[str, Any]]) -> None:
        if dice := [part["val_dice"] for part in parts if "val_dice" in part]:
            mean = sum(dice) / len(dice)
            self._say(
                f"{self._title}: {what}, validation Dice {mean:.3f} ({_mean_of(dice, parts)})",
                style="default",
            )

    def _warn_if_long(self, seconds: float) -> None:
        if self._on_cpu and seconds > LONG_SECONDS and not self._warned:
            self._warned = True
            self._console.print(
                f"about {duration(seconds)} left on this CPU; for a result today use a GPU, or a small model "
                "on small images: --model unet after `flames preprocess --size 96`",
                style="yellow",
                soft_wrap=True,
            )

    def _draw(self) -> Group:
        """Return the table, at most 80 columns wide, of constant width and height while it fills."""
        rounds = ", ".join(f"{modality} {one}" for modality, one in self._by_modality.items())
        present = f"rounds {rounds}" if rounds else f"round {self._round}"
        title = f"{self._title}: {present} of {self._rounds} (Dice on validation)"
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name, least, justify in COLUMNS:
            table.add_column(name, min_width=least, justify=justify, no_wrap=True, overflow="ellipsis")
        for client, row in self._rows.items():
            table.add_row(client, *(row.get(name, "") for name, _, _ in COLUMNS[1:]))
        return Group(table, Text(", ".join(filter(None, (self._left, self._spent))), style="dim"))


def _fill(row: dict[str, str], numbers: Mapping[str, Any]) -> None:
    """Show loss and validation Dice in a row of the live table, as far as they are known."""
    known = {column: numbers.get(f"{column}_val_dice") for column in ("received", "trained")}
    for column, value in {"loss": numbers.get("train_loss"), **known}.items():
        if value is not None:
            row[column] = f"{value:.3f}"


def _mean_dice(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean validation Dice of the models as received, and after local training."""
    received = [part["received_val_dice"] for part in parts if "received_val_dice" in part]
    trained = [part["trained_val_dice"] for part in parts if "trained_val_dice" in part]
    if not received or not trained:
        return ""
    means = f"{sum(received) / len(received):.3f} as received, {sum(trained) / len(trained):.3f} after"
    return f", validation Dice {means} local training ({_mean_of(trained, parts)})"


def _mean_of(values: Sequence[float], parts: Sequence[Mapping[str, Any]]) -> str:
    """Return how many values are averaged: those of clients, or of the clients of each model together."""
    return f"mean of {count(len(values), 'model' if any('clients' in one for one in parts) else 'client')}"
