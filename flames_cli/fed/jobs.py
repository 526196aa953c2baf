"""A run handed over to Flower: what its ServerApp must know, in a file that never leaves the server.

A run's configuration travels to every node: it names the job, and holds no path of the server. While a run
goes on, whoever handed it over holds one lock and its ServerApp another, which the system frees however they
end: so each knows within a second or two that the other is gone.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from flames_cli.errors import INTERNAL, FlamesError
from flames_cli.fed.event_log import EventLog
from flames_cli.fed.participation import Participation
from flames_cli.fed.server import Federation, run_rounds
from flames_cli.store.files.atomic import write_json
from flames_cli.store.files.locks import is_locked, lock_file, locked, rounds_of
from flames_cli.store.files.parse import parse_json

JOB = "job"
"""In a run's configuration: the job's name."""

WATCH_SECONDS = 1.0
"""Between a ServerApp's looks at whether the command that started it is still there."""

END_SECONDS = 20.0
"""Flower has to end a ServerApp that is told to end; then it ends at once."""

ORPHAN_SECONDS = 60.0
"""A ServerApp waits for the end of an earlier one of its run."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to go on with, in another process."""

    run: Path
    """Its folder."""
    participation: Participation


@contextmanager
def handed_over(home: Path, name: str, job: Job) -> Iterator[None]:
    """For the block, `job` is where the ServerApp's process finds it: Flower's home is in its environment.

    After it, a ServerApp that has not begun with it never will, and one at work ends.
    """
    with locked(_caller(home, name)):
        _sweep(home)
        participation = {
            **asdict(job.participation),
            "min_clients_by_modality": dict(job.participation.min_clients_by_modality),
        }
        write_json(_path(home, name), {"run": str(job.run.resolve()), "participation": participation})
        try:
            yield
        finally:
            _drop(home, name)


def events_path(home: Path, name: str) -> Path:
    """Where the ServerApp's process tells what happens in the job called `name`."""
    return home / "jobs" / f"{name}.events.jsonl"


def is_at_work(home: Path, name: str) -> bool:
    """Whether a ServerApp that has begun with the job called `name` is still there."""
    return is_locked(_worker(home, name))


def read_job(run_config: Mapping[str, Any]) -> tuple[Path, str, Job]:
    """The job that a run's configuration names: Flower's home, its name, and what it is.

    Raises:
        FlamesError: it names none that is here, or whoever started it is gone.
    """
    name, home = str(run_config.get(JOB, "")), os.environ.get("FLWR_HOME", "")
    if not (name.isalnum() and home and _path(Path(home), name).is_file()):
        raise FlamesError(
            f"there is no job '{name}' on this server; start runs with `flames federate`, as the user whose "
            "server it is"
        )
    if not is_locked(_caller(Path(home), name)):
        _drop(Path(home), name)
        raise FlamesError(f"the `flames federate` that started job '{name}' is gone; run it again")
    content = parse_json(_path(Path(home), name).read_text(encoding="utf-8"))
    return Path(home), name, Job(Path(content["run"]), Participation(**content["participation"]))


def make_job_server_app(open_job: Callable[[Job], Federation]) -> ServerApp:
    """The ServerApp that Flower's own engines load: it runs the job that its run's configuration names."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        home, name, job = read_job(context.run_config)
        log = EventLog(events_path(home, name))
        with locked(_worker(home, name)), _ending_with_caller(home, name):
            log.begin()
            try:
                with locked(rounds_of(job.run), seconds=ORPHAN_SECONDS):
                    run_rounds(grid, replace(open_job(job), on_event=log, participation=job.participation))
            except FlamesError as error:
                log.end(str(error), error.exit_code)
                raise
            except httpx.HTTPError as error:
                log.end(f"the SuperLink was lost ({type(error).__name__}: {error})", INTERNAL, lost=True)
                raise
            except Exception as error:
                log.end(f"the server failed ({type(error).__name__}: {error})", INTERNAL)
                raise
            # What else ends it is a signal: nothing is told, and whoever waits sees that the lock is free.
            log.end()

    return app


@contextmanager
def _ending_with_caller(home: Path, name: str) -> Iterator[None]:
    """End this process, as by Ctrl-C, once whoever started the job is gone, or Flower's server."""
    over, parent = threading.Event(), os.getppid()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            deserted = not is_locked(_caller(home, name))
            if deserted:
                _drop(home, name)
            if deserted or os.getppid() != parent:
                # To the process, not to this thread as Flower does: it wakes the main thread from its sleep.
                os.kill(os.getpid(), signal.SIGINT)
                if not over.wait(END_SECONDS):
                    os._exit(INTERNAL)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _sweep(home: Path) -> None:
    """Remove what jobs have left whose commands were killed."""
    for path in (home / "jobs").glob("*.json*"):
        name = path.name.partition(".")[0]
        if not is_locked(_caller(home, name)):
            _drop(home, name)


def _drop(home: Path, name: str) -> None:
    locks = [lock_file(_caller(home, name)), lock_file(_worker(home, name))]
    for path in (_path(home, name), events_path(home, name), *locks):
        path.unlink(missing_ok=True)


def _path(home: Path, name: str) -> Path:
    return home / "jobs" / f"{name}.json"


def _caller(home: Path, name: str) -> Path:
    """Held by whoever handed the job over."""
    return home / "jobs" / f"{name}.caller"


def _worker(home: Path, name: str) -> Path:
    """Held by the ServerApp that is at it."""
    return home / "jobs" / f"{name}.worker"
