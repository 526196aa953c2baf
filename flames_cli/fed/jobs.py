"""A run handed over to Flower: what its ServerApp must know, in a file that never leaves the server.

A run's configuration travels to every node: it names the job, and holds no path of the server.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from flames_cli.errors import INTERNAL, FlamesError
from flames_cli.fed.attendance import Attendance
from flames_cli.fed.event_log import EventLog
from flames_cli.fed.server import Federation, run_rounds
from flames_cli.store.atomic import write_json
from flames_cli.store.locks import locked
from flames_cli.store.parse import parse_json

JOB = "job"
"""In a run's configuration: the job's name."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to go on with, in another process."""

    run: Path
    """Its folder."""
    attendance: Attendance


def write_job(home: Path, name: str, job: Job) -> None:
    """Put `job` where the ServerApp's process finds it: Flower's home folder is in its environment."""
    attendance = {**asdict(job.attendance), "least_by_modality": dict(job.attendance.least_by_modality)}
    write_json(_path(home, name), {"run": str(job.run.resolve()), "attendance": attendance})


def events_path(home: Path, name: str) -> Path:
    """Where the ServerApp's process tells what happens in the job called `name`."""
    return home / "jobs" / f"{name}.events.jsonl"


def drop_job(home: Path, name: str) -> None:
    """Take the job back: a ServerApp that has not begun with it yet never will."""
    for path in (_path(home, name), events_path(home, name)):
        path.unlink(missing_ok=True)


def read_job(run_config: Mapping[str, Any]) -> tuple[Job, EventLog]:
    """The job that a run's configuration names, and where to tell what happens in it.

    Raises:
        FlamesError: it names none that is here.
    """
    name, home = str(run_config.get(JOB, "")), os.environ.get("FLWR_HOME", "")
    if not (name.isalnum() and home and _path(Path(home), name).is_file()):
        raise FlamesError(
            f"there is no job '{name}' on this server; start runs with `flames federate`, as the user whose "
            "server it is"
        )
    content = parse_json(_path(Path(home), name).read_text(encoding="utf-8"))
    job = Job(Path(content["run"]), Attendance(**content["attendance"]))
    return job, EventLog(events_path(Path(home), name))


def _path(home: Path, name: str) -> Path:
    return home / "jobs" / f"{name}.json"


def make_job_server_app(open_job: Callable[[Job], Federation]) -> ServerApp:
    """The ServerApp that Flower's own engines load: it runs the job that its run's configuration names."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        job, log = read_job(context.run_config)
        try:
            with locked(job.run):
                run_rounds(grid, replace(open_job(job), on_event=log, attendance=job.attendance))
        except FlamesError as error:
            log.end(str(error), error.exit_code)
            raise
        except BaseException as error:
            log.end(f"the server failed ({type(error).__name__}: {error})", INTERNAL)
            raise
        log.end()

    return app
