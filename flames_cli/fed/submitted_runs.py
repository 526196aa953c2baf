"""Runs that were submitted to a server, by Flower's number: Flower itself knows neither their name nor their
folder."""

from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.jsonl import Tail, append_line
from flames_cli.store.runs import RunFolder, read_config

FILE = "submitted.jsonl"
"""Name of the file in Flower's folder of the server."""


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """Folder and token of a run when it was submitted."""

    path: Path
    token: str
    """Token of the run, by which its folder is found after it was renamed."""

    def find_folder(self) -> RunFolder | None:
        """Return the run's folder, which may have another name now; None if it is not there."""
        others = sorted(self.path.parent.glob("*/")) if self.path.parent.is_dir() else []
        return next((RunFolder(path) for path in (self.path, *others) if _token(path) == self.token), None)


def note_submitted(home: Path, run_id: int, run: Path) -> None:
    """Note the folder of a run that was submitted under Flower's number `run_id`."""
    append_line(home / FILE, {"run_id": run_id, "path": str(run.resolve()), "token": _token(run)})


def read_submitted(home: Path) -> dict[int, SubmittedRun]:
    """Return the runs that were submitted, by Flower's number; those of earlier releases are missing.

    Raises:
        FlamesError: the list cannot be read.
    """
    try:
        records = Tail(home / FILE).read()
        return {int(one["run_id"]): SubmittedRun(Path(one["path"]), str(one["token"])) for one in records}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlamesError(
            f"{home / FILE} cannot be read ({error}); delete it: it only gives the runs their names"
        ) from error


def _token(run: Path) -> str:
    """Return the token of the run in a folder; empty if there is none that can be read."""
    try:
        return str(read_config(RunFolder(run).config).get("run", {}).get("token", ""))
    except FlamesError:
        return ""
