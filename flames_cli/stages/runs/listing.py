"""`flames runs`: every run of a workspace with its options, rounds, validation, time and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli.config import FederateConfig, check_section
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.stages.rounds import read_run_rounds
from flames_cli.store.files.locks import is_locked, rounds_of
from flames_cli.store.runs import RunFolder, read_config, read_history, read_member

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run, as far as its files can be read."""

    name: str
    family: str = ""
    """Name of its family; empty if the run is not one of several."""
    strategy: str = ""
    model: str = ""
    seed: int | None = None
    fold: int | None = None
    """Fold of its partition, from 1; None without folds."""
    planned: int = 1
    """Number of runs for which its family was started."""
    partition: str = ""
    device: str = ""
    rounds_done: int = 0
    rounds_asked: int = 0
    best: float | None = None
    """Highest pooled validation Dice of a stored round; None: not known, or a run that offers its last round
    only."""
    best_round: int | None = None
    last: float | None = None
    """Pooled validation Dice of the last stored round."""
    patients: int = 0
    """Number of validation patients."""
    seconds: float = 0.0
    """Sum of the durations of the rounds."""
    size_bytes: int = 0
    written: float = 0.0
    """Time of the last round, or of the start, in seconds since 1970."""
    running: bool = False
    """True if a process works on the run now."""
    damage: str = ""
    """Description of what is damaged; empty: nothing was found."""


def list_entries(workspace: Path) -> list[RunEntry]:
    """Return every folder below `runs/`, the newest first, damaged ones included.

    The weights of checkpoints are not read: `damage` is about the other files.
    """
    found = (RunFolder(path) for path in sorted((workspace / "runs").glob("*")) if _may_be_run(path))
    return sorted(map(read_entry, found), key=lambda entry: (-entry.written, entry.name))


def _may_be_run(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and any(path.iterdir())


def read_entry(run: RunFolder) -> RunEntry:
    """Return what the files of one run contain; damage is described, never raised."""
    entry = RunEntry(
        run.name,
        size_bytes=folder_bytes(run.path),
        written=_last_written(run),
        running=is_locked(run.path) or is_locked(rounds_of(run.path)),
    )
    try:
        return _with_rounds(run, _with_options(run, entry))
    except (FlamesError, OSError) as error:
        return replace(entry, damage=_describe(run, error))


def _describe(run: RunFolder, error: Exception) -> str:
    return str(error) if run.config.is_file() else "it has no config.toml of a run"


def _with_options(run: RunFolder, entry: RunEntry) -> RunEntry:
    tables, member = read_config(run.config), read_member(run)
    options, facts = tables.get("federate", {}), tables.get("run", {})
    return replace(
        entry,
        family=member.family,
        strategy=str(options.get("strategy", "")),
        model=str(options.get("model", "")),
        seed=options.get("seed"),
        fold=member.fold,
        planned=max(1, len(member.planned_seeds)) * max(1, len(member.planned_folds)),
        partition=str(options.get("partition", "default")),
        device=str(facts.get("device", "")),
        rounds_asked=int(options.get("rounds", 0)),
    )


def _with_rounds(run: RunFolder, entry: RunEntry) -> RunEntry:
    history = read_history(run.rounds)
    entry = replace(
        entry,
        rounds_done=max((line["round"] for line in history.records), default=0),
        seconds=sum(float(line.get("seconds", 0)) for line in history.records),
    )
    if history.garbled:
        lines = ", ".join(map(str, history.garbled))
        entry = replace(entry, damage=f"rounds.jsonl is damaged in line {lines}")
    config = check_section(FederateConfig, read_config(run.config)["federate"], where=f"{run.config}: ")
    try:
        rounds = read_run_rounds(run, config)
    except MissingArtifact:
        lost = "rounds are done, and there is no checkpoint" if entry.rounds_done > 1 else ""
        return replace(entry, damage=entry.damage or lost)
    best = rounds.best_rounds.get("best")
    return replace(
        entry,
        best=None if best is None else rounds.scores.of(best),
        best_round=best,
        last=rounds.scores.of(rounds.last),
        patients=rounds.scores.patients,
    )


def folder_bytes(folder: Path) -> int:
    """Return the sum of the sizes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _last_written(run: RunFolder) -> float:
    written = [path.stat().st_mtime for path in (run.rounds, run.config) if path.is_file()]
    return max(written, default=run.path.stat().st_mtime)


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs that are shown together: the members of a family, or one run."""

    name: str
    members: tuple[RunEntry, ...]

    @property
    def rounds_asked(self) -> int:
        """Number of rounds of all runs for which the family was started."""
        first = self.members[0]
        missing = max(0, first.planned - len(self.members)) if first.family == self.name else 0
        return sum(one.rounds_asked for one in self.members) + missing * first.rounds_asked

    @property
    def best(self) -> float | None:
        """Mean of the members' best Dice; None if one has none."""
        return _mean([one.best for one in self.members])

    @property
    def last(self) -> float | None:
        """Mean of the members' last Dice; None if one has none."""
        return _mean([one.last for one in self.members])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def group_entries(entries: Sequence[RunEntry]) -> list[RunGroup]:
    """Return the entries with the members of each family together, in the order of their newest member."""
    groups: dict[str, list[RunEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.family or entry.name, []).append(entry)
    return [RunGroup(name, tuple(sorted(found, key=lambda one: one.name))) for name, found in groups.items()]
