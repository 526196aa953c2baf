"""Trackers of a run (`--track`), fed by its events on every engine.

Each tracker has a thread of its own, so that a service that does not answer never slows a round. A tracker
that fails is noted once and left. At the start every tracker gets the rounds of rounds.jsonl that it does not
have: a continued run is complete, and a repeated round is never there twice.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from flames_cli.config import FederateConfig
from flames_cli.core.federated.round_parts import Record
from flames_cli.fed.events import Event, Noted, OnEvent, RoundDone
from flames_cli.stages.federate.planning import lr_schedule_of
from flames_cli.stages.federate.resuming import options_as_run
from flames_cli.stages.rounds import choose_round, read_passes, read_run_rounds
from flames_cli.store.files.atomic import finite
from flames_cli.store.runs import FOLDS, MACHINES, SEEDS, RunFolder, find_family, read_config, read_rounds
from flames_cli.trackers import make_tracker
from flames_cli.trackers.base import Status, TrackedRun, Tracker
from flames_cli.trackers.figures import Rates, final_figures, round_figures

FINISH_SECONDS = 120.0
"""Longest wait for the trackers after the run: online ones send what is left."""

INTERRUPTED_SECONDS = 10.0
"""The same after Ctrl-C."""

NOT_TRACKED = {"run", "track", "token", MACHINES, SEEDS, FOLDS}
"""Options and facts of a run that are no parameters."""

Job = Callable[[Tracker], None]


@contextmanager
def tracked(run: RunFolder, config: FederateConfig, on_event: OnEvent) -> Iterator[OnEvent]:
    """Provide a listener that passes events on, and feeds the trackers of a run while the block runs.

    The run's folder exists. If the block ends without an error, the trackers get the figures of the chosen
    round.
    """
    if not config.track:
        yield on_event
        return
    facts, records = describe_run(run, config), read_rounds(run.rounds)
    private = config.dp_noise is not None
    workers = [_Worker(name) for name in config.track]

    def send(record: Record) -> None:
        for worker in workers:
            worker.add_round(record, rates_of(config, record["round"]), private)

    def note_problems() -> None:
        for worker in workers:
            if problem := worker.take_problem():
                on_event(Noted(problem))

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, RoundDone):
            send(finite(event.record))
            note_problems()

    for worker in workers:
        worker.start(facts)
    for record in records:
        send(record)
    status: Status = "failed"
    try:
        yield listen
        status = "finished"
        for worker in workers:
            worker.add(lambda tracker: tracker.final(*read_final_figures(run, config)))
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        for worker in workers:
            worker.finish(status)
        seconds = INTERRUPTED_SECONDS if status == "interrupted" else FINISH_SECONDS
        ends = time.monotonic() + seconds  # for all trackers together
        for worker in workers:
            worker.wait(ends, seconds)
        note_problems()


def describe_run(run: RunFolder, config: FederateConfig) -> TrackedRun:
    """Return the facts of a run for its trackers."""
    made = read_config(run.config).get("run", {})
    return TrackedRun(
        name=run.name,
        family=find_family(run),
        # Not the token itself, by which clients find their state.
        identity=hashlib.sha256(str(made.get("token")).encode()).hexdigest()[:16],
        folder=run.path,
        workspace=config.workspace,
        parameters=parameters_of(run, config),
    )


def parameters_of(run: RunFolder, config: FederateConfig) -> dict[str, str | int | float | bool]:
    """Return the options of a run and the facts about it, with one name for each; without its token."""
    made = read_config(run.config).get("run", {})
    return dict(_parameters({**options_as_run(config), **made}))


def _parameters(entries: Record, before: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in entries.items():
        if key in NOT_TRACKED or value is None:
            continue
        if isinstance(value, dict):
            yield from _parameters(value, f"{before}{key}.")
        elif key == "encoder_weights":
            yield key, Path(value).name  # a path may contain the name of a person
        else:
            yield f"{before}{key}", value if isinstance(value, str | int | float | bool) else str(value)


def rates_of(config: FederateConfig, round_: int) -> Rates:
    """Return the function of the clients' learning rates in a round; see `fed.plan.Plan.training_of`."""
    own, factor = config.lr_by_modality, lr_schedule_of(config).factor(round_, config.rounds)

    def rate(client: str, modality: str) -> float:
        return own.get(client, own.get(modality, config.training.lr)) * factor

    return rate


def read_final_figures(run: RunFolder, config: FederateConfig) -> tuple[int, dict[str, float]]:
    """Return the number of the last round, and the figures of the chosen one."""
    chosen = choose_round(read_run_rounds(run, config), None)
    passes = {one["round"]: one for one in read_passes(run, read_rounds(run.rounds))}
    record, private = passes.get(chosen.round), config.dp_noise is not None
    return chosen.last, final_figures(record, chosen.round, private)


class _Worker:
    """One tracker, and the thread that calls it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._last = 0
        self._problem = ""
        self._noted = False
        self._thread = threading.Thread(target=self._work, name=f"track {name}", daemon=True)

    def start(self, facts: TrackedRun) -> None:
        """Make the tracker and start it."""

        def begin(tracker: Tracker) -> None:
            last = tracker.start(facts)
            if isinstance(last, bool) or not isinstance(last, int):
                raise TypeError(f"start returned {last!r}, expected the number of the last stored round")
            self._last = last

        self.add(begin)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Call the tracker later, in the order of the calls."""
        self._jobs.put(job)

    def add_round(self, record: Record, rates: Rates, private: bool) -> None:
        """Store a round later, unless the tracker has it."""

        def store(tracker: Tracker) -> None:
            if (number := record["round"]) > self._last:
                tracker.round(number, round_figures(record, rates, private))
                self._last = number

        self.add(store)

    def finish(self, status: Status) -> None:
        """End the tracker after all other calls."""
        self.add(lambda tracker: tracker.finish(status))
        self._jobs.put(None)

    def wait(self, ends: float, seconds: float) -> None:
        """Wait until all calls are done, at most to the time `ends`, which is `seconds` after the run."""
        self._thread.join(max(0.0, ends - time.monotonic()))
        if self._thread.is_alive():
            self._problem = f"it has not ended after {seconds:g} s"

    def take_problem(self) -> str:
        """Return a note on the tracker's error, once; "" if there is none."""
        if not self._problem or self._noted:
            return ""
        self._noted = True
        return (
            f"--track {self._name} has stopped ({self._problem}); the run is not affected, and the same "
            "command sends the missing rounds"
        )

    def _work(self) -> None:
        try:
            tracker = make_tracker(self._name)
            while job := self._jobs.get():
                job(tracker)
        except BaseException as error:  # also SystemExit: a tracker never ends a run
            self._problem = _describe(error)


def _describe(error: BaseException) -> str:
    """Return an error as one line, without the password of an address."""
    line = re.sub(r"//[^/@\s]+@", "//", " ".join(f"{type(error).__name__}: {error}".split()))
    return line if len(line) <= 300 else f"{line[:300]}…"
