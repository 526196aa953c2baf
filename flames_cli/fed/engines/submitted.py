"""A run on one of Flower's own engines: handed to a SuperLink, and followed to its end."""

import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import tomli_w

from flames_cli import __version__
from flames_cli.errors import FlamesError
from flames_cli.fed.apps import CLIENT_APP
from flames_cli.fed.event_log import EventReader, Lost
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import JOB, Job, events_path, handed_over, is_at_work
from flames_cli.fed.node import NODES
from flames_cli.flower.flwr_command import FlowerCli
from flames_cli.store.files.atomic import write_text

SERVER_APP = "flames_cli.stages.federate.server_app:server_app"

POLL_SECONDS = 0.2
"""Between two looks at what the run tells."""

LOOK_SECONDS = 10.0
"""Between two looks at whether a silent run is still there."""

LOOKS = 6
"""That may fail in a row before the run is given up."""

START_SECONDS = 600.0
"""Flower has to start a run's process; one whose machinery is broken never does."""

ALIVE = ("pending", "starting", "running")
STOPPED = "finished:stopped"


def run_submitted(
    cli: FlowerCli,
    job: Job,
    on_event: OnEvent,
    log: Path,
    nodes: Path | None = None,
    federation_config: Mapping[str, int | float] | None = None,
) -> None:
    """Hand `job` to the SuperLink of `cli`, and tell what happens until it is over.

    Args:
        cli: to the SuperLink.
        job: the run.
        on_event: told of all that its ServerApp tells.
        log: of the SuperLink, for error messages.
        nodes: file with the simulated nodes' configurations, where they are simulated.
        federation_config: Flower's options of a simulation.

    Raises:
        Lost: its process or the SuperLink died. Its number at the SuperLink, which may think that it goes on,
            comes with it.
        FlamesError: what ended the run. Interrupted, the run is stopped.
        RuntimeError: a fault in the program ended it.
    """
    name = secrets.token_hex(8)
    reader = EventReader(events_path(cli.home, name))
    run_config = {JOB: name, **({NODES: str(nodes.resolve())} if nodes else {})}
    # However this ends, no ServerApp goes on, or begins later, without anybody who follows it.
    with handed_over(cli.home, name, job):
        number = _submit(cli, run_config, federation_config)
        try:
            _follow(cli, number, name, reader, on_event, log)
            reader.raise_problem()
        except Lost as lost:
            lost.run_id = number
            raise
        except BaseException:
            if not reader.ended:
                stop_if_alive(cli, number)
            raise


def stop_if_alive(cli: FlowerCli, number: int) -> None:
    """Stop a run, unless it is over; a SuperLink that gives no answer runs nothing."""
    with suppress(FlamesError):
        if cli.run_status(number)[0] in ALIVE:
            cli.stop(number)


def _submit(
    cli: FlowerCli, run_config: Mapping[str, str], federation_config: Mapping[str, int | float] | None
) -> int:
    try:
        return cli.submit(_write_app(cli.home / "app"), run_config, federation_config)
    except FlamesError as error:
        if cli.answers():
            raise
        raise Lost(str(error)) from error


def _write_app(folder: Path) -> Path:
    """An app without code: it names components that are installed with FLAMES, everywhere the same."""
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


def _follow(
    cli: FlowerCli, number: int, name: str, reader: EventReader, on_event: OnEvent, log: Path
) -> None:
    began = looked = time.monotonic()
    while not reader.ended:
        now = time.monotonic()
        if _tell_news(reader, on_event):
            looked = now
        elif reader.begun and not is_at_work(cli.home, name):
            _raise_unless_ended(cli, number, reader, on_event, log)
        elif now - looked > LOOK_SECONDS:
            looked = now
            if _look(cli, number)[0] not in ALIVE:
                _raise_unless_ended(cli, number, reader, on_event, log)
            if not reader.begun and now - began > START_SECONDS:
                raise Lost(f"Flower has not started the run in {START_SECONDS:g} s; see {log}")
        if not reader.ended:
            time.sleep(POLL_SECONDS)


def _tell_news(reader: EventReader, on_event: OnEvent) -> bool:
    events = reader.read()
    for event in events:
        on_event(event)
    return bool(events)


def _raise_unless_ended(
    cli: FlowerCli, number: int, reader: EventReader, on_event: OnEvent, log: Path
) -> None:
    """Tell what was told just before the end.

    Raises:
        Lost: the end was not told.
        FlamesError: somebody has stopped the run.
    """
    _tell_news(reader, on_event)
    if reader.ended:
        return
    status, details = "unknown", "the SuperLink gives no answer"
    with suppress(FlamesError):
        status, details = cli.run_status(number)
    if status == STOPPED:
        raise FlamesError("somebody has stopped the run (`flwr stop`); run the same command again to go on")
    raise Lost(
        f"the run's process ended without a word (Flower: {status}{details and ', '}{details}); see {log}"
    )


def _look(cli: FlowerCli, number: int) -> tuple[str, str]:
    """The run's status and details; a SuperLink that is slow to answer is asked again.

    Raises:
        Lost: it gives no answer at all.
    """
    for _ in range(LOOKS - 1):
        with suppress(FlamesError):
            return cli.run_status(number)
        time.sleep(LOOK_SECONDS)
    try:
        return cli.run_status(number)
    except FlamesError as error:
        raise Lost(str(error)) from error
