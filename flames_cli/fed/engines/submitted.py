"""A run on one of Flower's own engines: it is submitted to a SuperLink and followed until it ends."""

import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from flames_cli import __version__
from flames_cli.errors import FlamesError
from flames_cli.fed.apps import CLIENT_APP
from flames_cli.fed.event_log import EventReader, Lost
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import JOB, Job, events_path, handed_over, is_at_work
from flames_cli.fed.node import NODES
from flames_cli.fed.submitted_runs import note_submitted
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.store.files.atomic import write_text

SERVER_APP = "flames_cli.stages.federate.server_app:server_app"

ALIVE = ("pending", "starting", "running")
STOPPED = "finished:stopped"


@dataclass(frozen=True, slots=True)
class Timing:
    """Times, in seconds, of the process that follows a run."""

    poll_s: float = 0.2
    """Time between two reads of the run's events."""
    status_s: float = 10.0
    """Time without an event after which the SuperLink is asked for the run's status."""
    status_attempts: int = 6
    """Number of times that the SuperLink is asked, `status_s` apart, before the run is given up."""
    start_s: float = 600.0
    """Time that Flower has to start the run's process."""


DEFAULT_TIMING = Timing()


def run_submitted(
    cli: FlwrCommand,
    job: Job,
    on_event: OnEvent,
    log: Path,
    nodes: Path | None = None,
    federation_config: Mapping[str, int | float] | None = None,
    timing: Timing = DEFAULT_TIMING,
) -> None:
    """Submit `job` to the SuperLink of `cli`, and pass its events on until it ends.

    Args:
        cli: command line for the SuperLink.
        job: the run.
        on_event: called with every event of the run's ServerApp.
        log: the SuperLink's log, for error messages.
        nodes: file with the simulated nodes' configurations; None if nodes are not simulated.
        federation_config: Flower's options of a simulation.
        timing: times between polls.

    Raises:
        Lost: the run's process or the SuperLink died. The error has the run's number at the SuperLink, which
            may still list the run as alive.
        FlamesError: the error that ended the run.
        KeyboardInterrupt: this process was interrupted; the run is stopped.
        RuntimeError: a bug in the program ended the run.
    """
    name = secrets.token_hex(8)
    run_config = {JOB: name, **({NODES: str(nodes.resolve())} if nodes else {})}
    # After this block, no ServerApp of this job runs or starts later: no process would follow it.
    with handed_over(cli.home, name, job):
        run_id = _submit(cli, run_config, federation_config)
        note_submitted(cli.home, run_id, job.run)
        follower = _Follower(cli, run_id, name, on_event, log, timing)
        try:
            follower.follow()
            follower.reader.raise_problem()
        except Lost as lost:
            lost.run_id = run_id
            raise
        except BaseException:
            if not follower.reader.ended:
                stop_if_alive(cli, run_id)
            raise


def stop_if_alive(cli: FlwrCommand, run_id: int) -> None:
    """Stop a run that has not ended; a SuperLink that does not answer runs nothing."""
    with suppress(FlamesError):
        if cli.run_status(run_id)[0] in ALIVE:
            cli.stop(run_id)


def _submit(
    cli: FlwrCommand, run_config: Mapping[str, str], federation_config: Mapping[str, int | float] | None
) -> int:
    try:
        return cli.submit(_write_app(cli.home / "app"), run_config, federation_config)
    except FlamesError as error:
        if cli.answers():
            raise
        raise Lost(str(error)) from error


def _write_app(folder: Path) -> Path:
    """Write an app without code: it names components that are installed with FLAMES on every machine."""
    write_text(
        folder / "pyproject.toml",
        tomli_w.dumps(
            {
                "build-system": {"requires": ["hatchling"], "build-backend": "hatchling.build"},
                "project": {
                    "name": "flames-federation",
                    "version": __version__,
                    "description": "A FLAMES federation",
                    "license": "Apache-2.0",
                    "dependencies": [],
                },
                "tool": {
                    "flwr": {
                        "app": {
                            "publisher": "flames",
                            "components": {"serverapp": SERVER_APP, "clientapp": CLIENT_APP},
                            "config": {JOB: "", NODES: ""},
                        }
                    }
                },
            }
        ),
    )
    return folder


class _Follower:
    """The process that submitted a run, while it reads the run's events."""

    def __init__(
        self, cli: FlwrCommand, run_id: int, name: str, on_event: OnEvent, log: Path, timing: Timing
    ) -> None:
        self.reader = EventReader(events_path(cli.home, name))
        self._cli = cli
        self._run_id = run_id
        self._name = name
        self._on_event = on_event
        self._log = log
        self._timing = timing

    def follow(self) -> None:
        """Pass the run's events on until it has ended.

        Raises:
            Lost: the run's process or the SuperLink died, or Flower did not start the run.
            FlamesError: the run was stopped.
        """
        timing = self._timing
        began = checked = time.monotonic()
        while not self.reader.ended:
            now = time.monotonic()
            if self._pass_on_events():
                checked = now
            elif self.reader.begun and not is_at_work(self._cli.home, self._name):
                self._require_end()
            elif now - checked > timing.status_s:
                checked = now
                if self._status()[0] not in ALIVE:
                    self._require_end()
                if not self.reader.begun and now - began > timing.start_s:
                    raise Lost(f"Flower has not started the run within {timing.start_s:g} s; see {self._log}")
            if not self.reader.ended:
                time.sleep(timing.poll_s)

    def _pass_on_events(self) -> bool:
        events = self.reader.read()
        for event in events:
            self._on_event(event)
        return bool(events)

    def _require_end(self) -> None:
        """Pass on the events that were written just before the run's process ended.

        Raises:
            Lost: the end of the run is not among them.
            FlamesError: the run was stopped.
        """
        self._pass_on_events()
        if self.reader.ended:
            return
        status, details = "unknown", "the SuperLink does not answer"
        with suppress(FlamesError):
            status, details = self._cli.run_status(self._run_id)
        if status == STOPPED:
            raise FlamesError("the run was stopped with `flwr stop`; run the same command again to resume it")
        raise Lost(
            f"the run's process ended without a report (Flower: {status}{details and ', '}{details}); "
            f"see {self._log}"
        )

    def _status(self) -> tuple[str, str]:
        """Return the run's status and details; ask a SuperLink that does not answer again.

        Raises:
            Lost: it did not answer at all.
        """
        for _ in range(self._timing.status_attempts - 1):
            with suppress(FlamesError):
                return self._cli.run_status(self._run_id)
            time.sleep(self._timing.status_s)
        try:
            return self._cli.run_status(self._run_id)
        except FlamesError as error:
            raise Lost(str(error)) from error
