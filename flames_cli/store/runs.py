"""A run's folder: `config.toml` as run, `rounds.jsonl`, `checkpoints/`, `evaluation/`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.atomic import DAMAGED, finite, reason_of, write_bytes, write_json, write_text
from flames_cli.store.files.jsonl import append_line, to_line
from flames_cli.store.files.parse import parse_json, parse_toml
from flames_cli.store.schema import RUN, check_stamp, stamp


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the files of one run lie."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The configuration as run."""
        return self.path / "config.toml"

    @property
    def rounds(self) -> Path:
        """A JSON line a round."""
        return self.path / "rounds.jsonl"

    @property
    def checkpoints(self) -> Path:
        """A folder a round."""
        return self.path / "checkpoints"

    @property
    def evaluation(self) -> Path:
        """What `flames evaluate` writes."""
        return self.path / "evaluation"

    @property
    def clients(self) -> Path:
        """What the clients on this machine keep between rounds."""
        return self.path / "clients"

    @property
    def initial(self) -> Path:
        """What every model starts from, where that is not drawn by seed alone."""
        return self.path / "initial.safetensors"

    @property
    def noise_secret(self) -> Path:
        """What the noise of a run with privacy is drawn from; its owner's alone."""
        return self.path / "noise.key"

    @property
    def client_tests(self) -> Path:
        """What real nodes tell of the final models on their own test sets."""
        return self.path / "client-tests.json"

    @property
    def nodes(self) -> Path:
        """The configurations of simulated nodes."""
        return self.path / "nodes.json"

    @property
    def engine_log(self) -> Path:
        """What Flower says while it simulates nodes."""
        return self.path / "engine.log"


def run_folder(workspace: Path, name: str) -> RunFolder:
    """The folder of run `name`, there or not."""
    return RunFolder(workspace / "runs" / name)


def list_runs(workspace: Path) -> list[Path]:
    """The folders of all runs, in order; not what a killed process left of one."""
    found = (path.parent for path in workspace.glob("runs/*/config.toml"))
    return sorted(path for path in found if not path.name.startswith("."))


def find_run(workspace: Path, name: str | None) -> RunFolder:
    """Run `name`, or the newest one.

    Raises:
        MissingArtifact: there is none; names the command and the runs that are there.
    """
    folder = workspace / "runs"
    there = list_runs(workspace)
    if name is None and there:
        return RunFolder(max(there, key=_last_written))
    if name is not None and folder / name in there:
        return RunFolder(folder / name)
    known = f" (there: {', '.join(sorted(path.name for path in there))})" if there else ""
    wanted = f"no run '{name}'" if name else "no run"
    raise MissingArtifact(f"{wanted} in {folder}{known}; make it with `flames federate`")


def _last_written(run: Path) -> tuple[int, str]:
    """When its newest round ended, or it began."""
    written = [
        path.stat().st_mtime_ns for path in (run / "rounds.jsonl", run / "config.toml") if path.exists()
    ]
    return max(written), run.name


def write_config(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write a run's configuration, stamped; entries without a value are left out."""
    kept = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in tables.items()
    }
    write_text(path, tomli_w.dumps({**stamp(RUN), **kept}))


def read_config(path: Path) -> dict[str, Any]:
    """A run's configuration.

    Raises:
        FlamesError: it cannot be read, or is of another format or version.
    """
    try:
        tables = parse_toml(path.read_text(encoding="utf-8"))
        check_stamp(tables, RUN, path)
        if not all(isinstance(tables.get(name, {}), dict) for name in ("federate", "run")):
            raise ValueError("its tables are none")
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); federate again with --fresh") from error
    return tables


def write_nodes(path: Path, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Write the configuration of every simulated node, in order."""
    write_json(path, list(nodes))


def read_nodes(path: Path) -> list[dict[str, Any]]:
    """What `write_nodes` wrote.

    Raises:
        FlamesError: it cannot be read.
    """
    try:
        return [dict(node) for node in parse_json(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); federate again") from error


def append_round(path: Path, record: dict[str, Any]) -> None:
    """Append one round's line; a number that is not finite becomes null, as JSON has none.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    append_line(path, finite(record), durable=True)


@dataclass(frozen=True, slots=True)
class History:
    """What a rounds.jsonl holds."""

    records: list[dict[str, Any]]
    """Of every round, in order."""
    garbled: list[int]
    """Numbers of the lines that are none, from 1; but for one cut short at the end, which a crash leaves."""


def read_history(path: Path) -> History:
    """Every round's record, and which lines are damaged; nothing where there is no file yet.

    Raises:
        FlamesError: it cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    except OSError as error:
        raise FlamesError(
            f"{path} cannot be read: {reason_of(error)}; check the disk and its rights"
        ) from error
    parsed = {number: _parse(line) for number, line in enumerate(lines, start=1) if line}
    return History(
        [record for record in parsed.values() if record],
        # What stands after the last line's end is of a write that was cut short.
        [number for number, record in parsed.items() if not record and number < len(lines)],
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None where it is no round's."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("round"), int) else None


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Every round's record, in order; empty where there is no file yet. A damaged line is passed over."""
    return read_history(path).records


def truncate_rounds(path: Path, last: int) -> list[str]:
    """Drop the records of rounds after `last`: those that a resumed run will do again.

    Returns:
        What is wrong with the records that are left, in words. A file with damaged lines stays beside the
        mended one.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    history = read_history(path)
    kept = {record["round"]: record for record in history.records if record["round"] <= last}
    notes = []
    if history.garbled:
        aside = path.with_name(f"{path.name}{DAMAGED}")
        write_bytes(aside, path.read_bytes())
        lines = ", ".join(str(number) for number in history.garbled)
        notes.append(f"{path} is damaged in line {lines}; it is kept as {aside.name}, and goes on without")
    if lost := [str(round_) for round_ in range(1, last + 1) if round_ not in kept]:
        notes.append(f"{path} has no line of round {', '.join(lost)}; the models have all rounds")
    text = "".join(to_line(finite(kept[round_])) for round_ in sorted(kept))
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return notes
