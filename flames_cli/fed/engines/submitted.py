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
from flames_cli.fed.deployed.flower_cli import FlowerCli
from flames_cli.fed.event_log import EventReader
from flames_cli.fed.events import OnEvent
from flames_cli.fed.jobs import JOB, Job, drop_job, events_path, write_job
from flames_cli.fed.node import NODES
from flames_cli.store.atomic import write_text

SERVER_APP = "flames_cli.stages.federating.remote:server_app"

POLL_SECONDS = 0.2
"""Between two looks at what the run tells."""

LOOK_SECONDS = 10.0
"""Between two looks at whether a silent run is still there."""

LOOKS = 6
"""That may fail in a row before the run is given up."""

ALIVE = ("pending", "starting", "running")


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
        FlamesError: what ended the run. Interrupted, the run is stopped.
        RuntimeError: a fault in the program ended it.
    """
    name = secrets.token_hex(8)
    reader = EventReader(events_path(cli.home, name))
    write_job(cli.home, name, job)
    number: int | None = None
    try:
        run_config = {JOB: name, **({NODES: str(nodes.resolve())} if nodes else {})}
        number = cli.submit(_write_app(cli.home / "app"), run_config, federation_config)
        _follow(cli, number, reader, on_event, log)
    finally:
        # However this ends, no ServerApp goes on, or begins later, without anybody who follows it.
        drop_job(cli.home, name)
        if number is not None and not reader.ended:
            with suppress(FlamesError):
                cli.stop(number)
    reader.raise_problem()


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


def _follow(cli: FlowerCli, number: int, reader: EventReader, on_event: OnEvent, log: Path) -> None:
    looked = time.monotonic()
    while not reader.ended:
        events = reader.read()
        for event in events:
            on_event(event)
        now = time.monotonic()
        if events:
            looked = now
        elif now - looked > LOOK_SECONDS:
            looked = now
            status, details = _look(cli, number)
            if status not in ALIVE and not _last_words(reader, on_event):
                raise FlamesError(f"the run ended as {status} without a word ({details}); see {log}")
        if not reader.ended:
            time.sleep(POLL_SECONDS)


def _look(cli: FlowerCli, number: int) -> tuple[str, str]:
    """The run's status and details; a SuperLink that is slow to answer is asked again."""
    for _ in range(LOOKS - 1):
        with suppress(FlamesError):
            return cli.run_status(number)
        time.sleep(LOOK_SECONDS)
    return cli.run_status(number)


def _last_words(reader: EventReader, on_event: OnEvent) -> bool:
    """What was told just before the end; whether the end was told."""
    for event in reader.read():
        on_event(event)
    return reader.ended
