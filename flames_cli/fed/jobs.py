"""Jobs: runs submitted to Flower. A job's file on the server names the run that its ServerApp executes.

A run's configuration travels to every node, so it contains only the job's name and no path of the server.
While a run executes, the process that submitted it has one lock and the ServerApp has another. The system
frees a lock however its process ends, so each side notices within a second or two that the other has ended.
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
from flames_cli.fed.federation import Federation
from flames_cli.fed.participation import Participation
from flames_cli.fed.server import run_rounds
from flames_cli.store.files.atomic import write_json
from flames_cli.store.files.locks import is_locked, lock_file, locked, rounds_of
from flames_cli.store.files.parse import parse_json

JOB = "job"
"""Key in a run's configuration: the job's name."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Times that a job's ServerApp waits, in seconds."""

    watch_s: float = 1.0
    """Time between two checks whether the command that started it still runs."""
    end_s: float = 20.0
    """Time that Flower has to end the ServerApp after SIGINT; then the process exits immediately."""
    orphan_s: float = 60.0
    """Longest time until an earlier ServerApp of the same run has ended."""


USUAL_WAITS = Waits()


@dataclass(frozen=True, slots=True)
class Job:
    """A run that another process executes."""

    run: Path
    """Folder of the run."""
    participation: Participation


@contextmanager
def handed_over(home: Path, name: str, job: Job) -> Iterator[None]:
    """Provide `job` under `name` in Flower's folder `home` while the block runs.

    After the block, no ServerApp can start with this job, and one that runs ends.
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
    """Return the file to which the ServerApp of the job called `name` writes its events."""
    return home / "jobs" / f"{name}.events.jsonl"


def is_at_work(home: Path, name: str) -> bool:
    """Return True if a ServerApp has started with the job called `name` and still runs."""
    return is_locked(_worker(home, name))


def read_job(run_config: Mapping[str, Any]) -> tuple[Path, str, Job]:
    """Return (Flower's folder, the job's name, the job) for the job that a run's configuration names.

    Raises:
        FlamesError: the job does not exist on this server, or the command that submitted it has ended.
    """
    name, home = str(run_config.get(JOB, "")), os.environ.get("FLWR_HOME", "")
    if not (name.isalnum() and home and _path(Path(home), name).is_file()):
        raise FlamesError(
            f"there is no job '{name}' on this server; start runs with `flames federate`, as the user who "
            "runs the server"
        )
    if not is_locked(_caller(Path(home), name)):
        _drop(Path(home), name)
        raise FlamesError(f"the `flames federate` that started job '{name}' has ended; run it again")
    content = parse_json(_path(Path(home), name).read_text(encoding="utf-8"))
    return Path(home), name, Job(Path(content["run"]), Participation(**content["participation"]))


def make_job_server_app(open_job: Callable[[Job], Federation], waits: Waits = USUAL_WAITS) -> ServerApp:
    """Return the ServerApp that Flower's own engines load: it executes the job that its run names."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        home, name, job = read_job(context.run_config)
        log = EventLog(events_path(home, name))
        with locked(_worker(home, name)), _ending_with_caller(home, name, waits):
            log.begin()
            try:
                with locked(rounds_of(job.run), seconds=waits.orphan_s):
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
            # Any other end is a signal: nothing is logged, and the process that waits finds the lock free.
            log.end()

    return app


@contextmanager
def _ending_with_caller(home: Path, name: str, waits: Waits) -> Iterator[None]:
    """Interrupt this process, as Ctrl-C does, when the submitting process or Flower's server ends."""
    over, parent = threading.Event(), os.getppid()

    def watch() -> None:
        while not over.wait(waits.watch_s):
            deserted = not is_locked(_caller(home, name))
            if deserted:
                _drop(home, name)
            if deserted or os.getppid() != parent:
                # Sent to the process, not to this thread as in Flower: it wakes a sleeping main thread.
                os.kill(os.getpid(), signal.SIGINT)
                if not over.wait(waits.end_s):
                    os._exit(INTERNAL)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _sweep(home: Path) -> None:
    """Remove the files of jobs whose commands were killed."""
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
    """Return the path that the submitting process locks."""
    return home / "jobs" / f"{name}.caller"


def _worker(home: Path, name: str) -> Path:
    """Return the path that the job's ServerApp locks."""
    return home / "jobs" / f"{name}.worker"
