"""The log of a run as plain text, `log.txt` in its folder: each line has its time in UTC.

The process of the command writes it from the run's events, so that it is the same on every engine.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flames_cli.config import FederateConfig
from flames_cli.core.federated.round_parts import Record
from flames_cli.errors import FlamesError
from flames_cli.fed.events import (
    ClientJoined,
    Event,
    FinalModelsExamined,
    LineLogged,
    ModalityDone,
    NodeRejected,
    Noted,
    OnEvent,
    ReportRejected,
    RoundDone,
    Waiting,
)
from flames_cli.stages.federate.tracking import parameters_of
from flames_cli.stages.rounds import choose_round, read_run_rounds
from flames_cli.store.files.atomic import finite
from flames_cli.store.files.jsonl import append_bytes
from flames_cli.store.runs import MACHINES, RunFolder, read_config
from flames_cli.trackers.figures import final_figures, round_figures

LARGEST = 4 * 2**20
"""Size of the log in bytes above which it is renamed and another one begins: about 20,000 rounds."""

LONGEST = 4000
"""Largest number of characters of a line."""

WAYS = {"bytes_down": "sent", "bytes_up": "received"}

STARTED, JOINED, CANNOT_JOIN = "start: ", "joined: ", "cannot join: "
"""Beginnings of lines, after their time."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


@contextmanager
def logged(
    run: RunFolder,
    config: FederateConfig,
    on_event: OnEvent,
    after: int = 0,
    notes: Iterable[str] = (),
    clock: Clock = utc_now,
) -> Iterator[OnEvent]:
    """Provide a listener that passes events on, and appends them to the log while the block runs.

    Args:
        run: folder of the run, which exists.
        config: options of the run.
        on_event: receives the events, and each line of the log.
        after: round after which the run continues; 0: it begins.
        notes: notes that were made before.
        clock: returns the time.
    """
    log = _Log(run, on_event, clock)
    private = config.dp_noise is not None

    def listen(event: Event) -> None:
        on_event(event)
        log.write(*describe(event, private))

    log.write(
        f"{STARTED}{f'continues after round {after} of' if after else 'round 1 of'} {config.rounds}",
        f"machine: {describe_software(run)}",
        f"options: {' '.join(f'{key}={value}' for key, value in parameters_of(run, config).items())}",
        *(f"note: {note}" for note in notes),
    )
    try:
        yield listen
        log.write(f"end: {_describe_end(run, config)}")
    except KeyboardInterrupt:
        log.write("end: interrupted; the same command continues the run")
        raise
    except FlamesError as error:
        log.write(f"error: {error}", "end: stopped by this error")
        raise
    except Exception as error:
        log.write(f"error: internal error ({type(error).__name__}: {error})", "end: stopped by this error")
        raise


def describe(event: Event, private: bool) -> list[str]:
    """Return the lines of an event, without their time; empty if it is not logged.

    Of a run with differential privacy they have means over the clients, and no numbers of images.
    """
    if isinstance(event, ClientJoined):
        images = "" if private else f", {event.n_train} training images"
        return [f"{JOINED}{event.client} ({event.modality}, {event.organ}{images})"]
    if isinstance(event, NodeRejected):
        return [f"{CANNOT_JOIN}{event.node}: {event.reason}"]
    if isinstance(event, Waiting):
        return [f"waiting: up to {event.seconds:.0f} s before round {max(event.round, 1)}: {event.missing}"]
    if isinstance(event, ReportRejected):
        # A reason may state the client's numbers of images.
        reason = "rounds.jsonl has the reason" if private else event.reason
        return [f"rejected: round {event.round}, {event.client}: {reason}"]
    if isinstance(event, ModalityDone):
        return [f"{event.modality} {describe_round(finite(event.record), private)}"]
    if isinstance(event, RoundDone):
        return [describe_round(finite(event.record), private)]
    if isinstance(event, FinalModelsExamined):
        return list(_describe_final(finite(event.record), private))
    return [f"note: {event.note}"] if isinstance(event, Noted) else []


def read_rejected(log: Path) -> dict[str, str]:
    """Return the nodes that could not join since the run started last, with the reason, from its log.

    A node that has joined since then is not among them.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rejected: dict[str, str] = {}
    for line in (line.partition(" ")[2] for line in lines):
        if line.startswith(STARTED):
            rejected = {}
        elif line.startswith(CANNOT_JOIN):
            node, _, reason = line.removeprefix(CANNOT_JOIN).partition(": ")
            rejected[node] = reason
        elif line.startswith(JOINED):
            name = line.removeprefix(JOINED).partition(" (")[0]
            for node in (f"client {name}", f"node {name}"):
                rejected.pop(node, None)
    return rejected


def describe_round(record: Record, private: bool) -> str:
    """Return a round in one line; scores are means over images, with privacy over clients."""
    found = round_figures(record, lambda *_: 0.0, private)
    parts = [f"{record['seconds']:.1f} s"]
    if (loss := found.get("pooled/train_loss")) is not None:
        parts.append(f"training loss {loss:.4f}")
    dice = [found.get(f"pooled/{name}_val_dice") for name in ("received", "trained")]
    if None not in dice:
        parts.append(f"validation Dice {dice[0]:.4f} as received, {dice[1]:.4f} after local training")
    if not private:
        parts.append(f"{len(record['accepted'])} of {len(record['clients'])} reports accepted")
    if unchanged := record["unchanged_groups"]:
        parts.append(f"unchanged models: {', '.join(unchanged)}")
    if "clock_seconds" in record:
        stale = [one for client in record["clients"] for one in client.get("staleness", ())]
        parts.append(f"{record['clock_seconds']:.1f} s since the start by its clock")
        parts.append(f"staleness up to {max(stale, default=0)}")
    parts += [f"{record[key] / 2**20:.2f} MiB {way}" for key, way in WAYS.items()]
    if "epsilon" in record:
        parts.append(f"epsilon {record['epsilon']} (delta {record['delta']:g})")
    return f"round {record['round']}: {', '.join(parts)}"


def describe_software(run: RunFolder) -> str:
    """Return the version of FLAMES, and the facts about the machine of this command, without its name."""
    facts = read_config(run.config)["run"]
    machine = " ".join(f"{key}={value}" for key, value in facts[MACHINES][-1].items())
    return f"flames={facts['flames']} {machine}"


def _describe_final(record: Record, private: bool) -> Iterator[str]:
    for one in (record, *record.get("earlier", ())):
        figures = final_figures(one, one["round"], private)
        if (dice := figures.get("chosen/val_dice")) is not None:
            yield f"final models of round {one['round']}: validation Dice {dice:.4f}"
    for client, reason in record.get("missing", {}).items():
        shown = "final-models.json has the reason" if private else reason
        yield f"no report on the final models: {client}: {shown}"


def _describe_end(run: RunFolder, config: FederateConfig) -> str:
    try:
        chosen = choose_round(read_run_rounds(run, config), None)
    except FlamesError as error:
        return f"finished; no round can be chosen: {error}"
    return f"finished after round {chosen.last}; flames evaluate takes round {chosen.round}: {chosen.why}"


class _Log:
    """The file of the log; a log that cannot be written never ends a run."""

    def __init__(self, run: RunFolder, on_event: OnEvent, clock: Clock) -> None:
        self._run = run
        self._on_event = on_event
        self._clock = clock
        self._writes = True

    def write(self, *texts: str) -> None:
        """Append lines, in one step."""
        if not texts:
            return
        now = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = [f"{now} {_one_line(text)}" for text in texts]
        for line in lines:
            self._on_event(LineLogged(line))
        if self._writes:
            try:
                self._make_room()
                append_bytes(self._run.log, "".join(f"{line}\n" for line in lines).encode())
            except (FlamesError, OSError) as error:
                self._writes = False
                self._on_event(Noted(f"log.txt of the run is not written any more: {error}"))

    def _make_room(self) -> None:
        """Rename a log that has become too large; an older one of that name is replaced."""
        if self._run.log.is_file() and self._run.log.stat().st_size > LARGEST:
            self._run.log.replace(self._run.earlier_log)


def _one_line(text: str) -> str:
    """Return `text` as one printable line: reasons and names come from other machines."""
    line = " ".join(text.split())[:LONGEST]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
