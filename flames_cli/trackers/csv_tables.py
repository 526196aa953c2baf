"""The tracker `csv`: tables in the folder `csv` of the run."""

import csv
from pathlib import Path

from flames_cli.store.files.atomic import write_csv
from flames_cli.store.files.jsonl import append_bytes
from flames_cli.trackers.base import Figures, Status, TrackedRun

FOLDER = "csv"


class CsvTracker:
    """Tables: `rounds.csv` with a line for each round, `final.csv` and `parameters.csv`."""

    def __init__(self) -> None:
        self._folder = Path()
        self._columns: list[str] = []

    def start(self, run: TrackedRun) -> int:
        """Read the table that is there, without a line that was cut short."""
        self._folder = run.folder / FOLDER
        write_csv(self._folder / "parameters.csv", ("name", "value"), [*run.parameters.items()])
        header, rows = _read(self._rounds)
        if not header:
            return 0
        self._columns = header[1:]
        if self._rounds.read_bytes()[-1:] != b"\n":
            write_csv(self._rounds, header, rows)
        return int(rows[-1][0]) if rows else 0

    def round(self, number: int, figures: Figures) -> None:
        """Add a line; a client that joins later adds columns."""
        if new := [name for name in figures if name not in self._columns]:
            self._columns += new
            rows = [row + [""] * len(new) for row in _read(self._rounds)[1]]
            write_csv(self._rounds, ("round", *self._columns), rows)
        cells = [number, *(figures.get(name, "") for name in self._columns)]
        append_bytes(self._rounds, (",".join(map(str, cells)) + "\n").encode())

    def final(self, number: int, figures: Figures) -> None:
        """Write the figures of the chosen round."""
        write_csv(self._folder / "final.csv", ("name", "value"), [("round", number), *figures.items()])

    def finish(self, status: Status) -> None:
        """Do nothing, since everything is written."""

    @property
    def _rounds(self) -> Path:
        return self._folder / "rounds.csv"


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the complete lines of a table; both are empty if there is none."""
    if not path.is_file():
        return [], []
    text = path.read_text(encoding="utf-8")
    header, *rows = [*csv.reader(text[: text.rfind("\n") + 1].splitlines())] or [[]]
    return header, [row for row in rows if len(row) == len(header)]
