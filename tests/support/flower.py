"""Stand-ins for Flower."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError
from flames_cli.fed.event_log import EventLog
from flames_cli.fed.jobs import JOB, events_path
from flames_cli.flower.control_api import NodeRecord


class StubCli:
    """Flower's command line, at a server without processes. Its runs write the events that `play` writes; it
    lists `records` as the nodes, or raises `problem`."""

    def __init__(
        self,
        home: Path | None = None,
        play: Callable[[EventLog], object] | None = None,
        status: tuple[str, str] | Exception = ("running", ""),
        answering: bool = True,
    ) -> None:
        self.home, self.play, self.status, self.answering = home, play, status, answering
        self.stopped: list[int] = []
        self.looks = 0
        self.records: list[NodeRecord] = []
        self.problem = ""
        self.registered: list[str] = []
        self.unregistered: list[int] = []

    def submit(self, app: Path, run_config: dict[str, str], federation_config: Any = None) -> int:
        assert {path.name for path in app.iterdir()} == {"pyproject.toml"}
        assert self.home
        assert self.play
        self.run_config = run_config
        self.play(EventLog(events_path(self.home, run_config[JOB])))
        return 7

    def answers(self) -> bool:
        return self.answering

    def run_status(self, run_id: int) -> tuple[str, str]:
        self.looks += 1
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def stop(self, run_id: int) -> None:
        self.stopped.append(run_id)

    def register(self, key: Path, name: str) -> int:
        if not key.is_file():
            raise FlamesError(f"no {key}")
        self.registered.append(name)
        return 100 + len(self.registered)

    def unregister(self, node_id: int) -> None:
        self.unregistered.append(node_id)

    def nodes(self) -> list[NodeRecord]:
        if self.problem:
            raise FlamesError(self.problem)
        return self.records
