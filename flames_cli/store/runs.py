"""Folder of a run: `config.toml` as run, `rounds.jsonl`, `checkpoints/`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.files.atomic import DAMAGED, finite, reason_of, write_bytes, write_json, write_text
from flames_cli.store.files.jsonl import append_line, to_line
from flames_cli.store.files.names import name_of, safe_name
from flames_cli.store.files.parse import parse_json, parse_toml, read_text
from flames_cli.store.member_names import family_name, member_name, split_name
from flames_cli.store.schema import FINAL_MODELS, RUN, check_stamp, read_json, stamp

SEEDS, FOLDS = "seeds", "folds"
"""Keys among a run's facts: all seeds and all folds of its family, if it is one of several."""

PARTITION_SHA256 = "partition_sha256"
"""Key among a run's facts: the SHA-256 of its partition's file, if this machine has one."""

MACHINES = "machines"
"""Key among a run's facts: each machine on which the run's server has run, in order."""

_NAMES_OF_VERSION_2 = {"kept_models": "unchanged_groups", "refused": "rejected"}
"""Names in a line of rounds.jsonl that version 3 of flames-run changed."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of the files of one run."""

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
        """The record of every round, one JSON line each."""
        return self.path / "rounds.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The checkpoints, one folder per round."""
        return self.path / "checkpoints"

    @property
    def modalities(self) -> Path:
        """The checkpoints and lines of each modality, if modalities do their own rounds."""
        return self.path / "modalities"

    @property
    def curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "rounds.png"

    @property
    def clients(self) -> Path:
        """The client state of the clients on this machine."""
        return self.path / "clients"

    @property
    def joined_clients(self) -> Path:
        """Each client as it described itself when it joined."""
        return self.path / "clients.json"

    @property
    def initial(self) -> Path:
        """The weights that every model starts from, unless they are drawn by seed alone."""
        return self.path / "initial.safetensors"

    @property
    def starts(self) -> Path:
        """The weights that some models start from, by number, if they have other ones than the rest."""
        return self.path / "starts"

    @property
    def noise_secret(self) -> Path:
        """The secret from which the noise of a run with privacy is drawn; readable only by the owner."""
        return self.path / "noise.key"

    @property
    def openings(self) -> Path:
        """The rounds whose private sums clients were asked to open, one JSON line each time."""
        return self.path / "openings.jsonl"

    @property
    def client_tests(self) -> Path:
        """The reports of real nodes about the final models on their own test sets."""
        return self.path / "client-tests.json"

    @property
    def final_models(self) -> Path:
        """The clients' reports on the final models: statistics and validation."""
        return self.path / "final-models.json"

    @property
    def log(self) -> Path:
        """The log of the run, as plain text."""
        return self.path / "log.txt"

    @property
    def earlier_log(self) -> Path:
        """The log before it became too large."""
        return self.path / "log-earlier.txt"

    @property
    def nodes(self) -> Path:
        """The configurations of simulated nodes."""
        return self.path / "nodes.json"

    @property
    def engine_log(self) -> Path:
        """The output of Flower while it simulates nodes."""
        return self.path / "engine.log"


def run_folder(workspace: Path, name: str) -> RunFolder:
    """Return the folder of run `name`, whether or not it exists."""
    return RunFolder(workspace / "runs" / name)


def modality_folder(run: RunFolder, modality: str) -> RunFolder:
    """Return the folder of a modality that does its own rounds, with the same files as that of a run."""
    return RunFolder(run.modalities / safe_name(modality))


def list_modalities(run: RunFolder) -> list[str]:
    """Return the modalities that do their own rounds in this run, sorted; empty if rounds are in step."""
    if not run.modalities.is_dir():
        return []
    folders = (path for path in run.modalities.iterdir() if path.is_dir())
    return sorted(name_of(path.name) for path in folders)


def list_runs(workspace: Path) -> list[Path]:
    """Return the folders of all runs, in order, without folders that a killed process left half deleted."""
    found = (path.parent for path in workspace.glob("runs/*/config.toml"))
    return sorted(path for path in found if not path.name.startswith("."))


def list_differences(was: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return each of the `keys` whose option differs, as `key was → now`; a missing option is None."""
    return [f"{key} {was.get(key)!r} → {now.get(key)!r}" for key in keys if was.get(key) != now.get(key)]


@dataclass(frozen=True, slots=True)
class Member:
    """A run and its place in its family."""

    run: RunFolder
    family: str
    """Name of the family; empty if the run is not one of several."""
    fold: int | None
    """Its fold; None if the family has no folds."""
    seed: int | None
    """Its seed; None if the family has one seed."""
    planned_folds: tuple[int, ...]
    planned_seeds: tuple[int, ...]


def read_member(run: RunFolder) -> Member:
    """Return the place of a run in its family.

    Raises:
        FlamesError: the configuration of the run cannot be read.
    """
    facts = read_config(run.config).get("run", {})
    folds, seeds = (tuple(int(one) for one in facts.get(key, ())) for key in (FOLDS, SEEDS))
    return Member(run, *split_name(run.name, bool(folds), bool(seeds)), folds, seeds)


def find_members(workspace: Path, family: str) -> list[RunFolder]:
    """Return the runs of a family by seed and fold: those that `federate --seeds` and `--folds` made under
    this name.

    Raises:
        FlamesError: the configuration of a run cannot be read.
    """
    named = (RunFolder(path) for path in list_runs(workspace) if path.name.startswith(f"{family}-"))
    found = [one for one in map(read_member, named) if one.family == family]
    return [one.run for one in sorted(found, key=lambda one: (one.seed or 0, one.fold or 0))]


def find_family(run: RunFolder) -> str:
    """Return the name of the run's family; empty if the run is not one of several.

    Raises:
        FlamesError: the configuration of the run cannot be read.
    """
    return read_member(run).family


def planned_seeds(members: Iterable[RunFolder]) -> list[int]:
    """Return the seeds for which a family was started, in order, with those whose run does not exist yet.

    Raises:
        FlamesError: the configuration of a run cannot be read.
    """
    return sorted({seed for run in members for seed in read_member(run).planned_seeds})


def planned_folds(members: Iterable[RunFolder]) -> list[int]:
    """Return the folds for which a family was started, in order; raises as `planned_seeds`."""
    return sorted({fold for run in members for fold in read_member(run).planned_folds})


def planned_names(family: str, members: Sequence[RunFolder]) -> list[str]:
    """Return the names of all runs for which a family was started, by seed and fold; raises as
    `planned_seeds`."""
    seeds: list[int | None] = [*planned_seeds(members)] or [None]
    folds: list[int | None] = [*planned_folds(members)] or [None]
    return [member_name(family, fold, seed) for seed in seeds for fold in folds]


def find_runs(workspace: Path, name: str | None) -> tuple[str, list[RunFolder]]:
    """Return a name with its run, or with all runs of the family of that name; without a name those of the
    newest run.

    Raises:
        MissingArtifact: there is none.
        FlamesError: the configuration of a run cannot be read.
    """
    if name and not run_folder(workspace, name).config.exists():
        family = name
    else:
        run = find_run(workspace, name)
        family = "" if name else find_family(run)
    members = find_members(workspace, family) if family else []
    if members:
        return family, members
    run = find_run(workspace, name)
    return run.name, [run]


def find_run(workspace: Path, name: str | None) -> RunFolder:
    """Return run `name`, or the newest run.

    Raises:
        MissingArtifact: there is none; the message names the command and the existing runs.
        FlamesError: there are several of that name, with different seeds or folds.
    """
    folder = workspace / "runs"
    there = list_runs(workspace)
    if name is None and there:
        return RunFolder(max(there, key=_last_written))
    if name is not None and folder / name in there:
        return RunFolder(folder / name)
    if name is not None and (members := find_members(workspace, name)):
        raise FlamesError(
            f"'{name}' is {len(members)} runs with different seeds or folds, expected one run; pass one of "
            f"{', '.join(run.name for run in members)}"
        )
    known = f" (existing: {', '.join(_shown_names(there))})" if there else ""
    wanted = f"no run '{name}'" if name else "no run"
    raise MissingArtifact(f"{wanted} in {folder}{known}; make it with `flames federate`")


def _shown_names(runs: Sequence[Path]) -> list[str]:
    """Return the names of runs, with one name for all runs that seem to be of one family."""
    sizes = Counter(family_name(run.name) for run in runs)
    names = {run.name: family_name(run.name) for run in runs}
    return sorted({family if family and sizes[family] > 1 else name for name, family in names.items()})


def _last_written(run: Path) -> tuple[int, str]:
    """Return the time at which the newest round of the run ended, or at which the run began."""
    written = [
        path.stat().st_mtime_ns for path in (run / "rounds.jsonl", run / "config.toml") if path.exists()
    ]
    return max(written), run.name


def write_config(path: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write a run's configuration with its format and version; entries without a value are left out."""
    kept = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in tables.items()
    }
    write_text(path, tomli_w.dumps({**stamp(RUN), **kept}))


def read_config(path: Path) -> dict[str, Any]:
    """Read a run's configuration.

    Raises:
        FlamesError: it cannot be read, or has another format or version.
    """
    try:
        tables = parse_toml(read_text(path))
        check_stamp(tables, RUN, path)
        if not all(isinstance(tables.get(name, {}), dict) for name in ("federate", "run")):
            raise ValueError("its entries are not tables")
    except (OSError, ValueError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); federate again with --fresh") from error
    return tables


def write_nodes(path: Path, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Write the configuration of every simulated node, in order."""
    write_json(path, list(nodes))


def read_nodes(path: Path) -> list[dict[str, Any]]:
    """Return the configurations that `write_nodes` wrote.

    Raises:
        FlamesError: the file cannot be read.
    """
    try:
        return [dict(node) for node in parse_json(read_text(path))]
    except (OSError, ValueError, TypeError) as error:
        raise FlamesError(f"{path} cannot be read ({error}); federate again") from error


def append_round(path: Path, record: dict[str, Any]) -> None:
    """Append one round's line; a number that is not finite becomes null, because JSON has no such numbers.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    append_line(path, finite(record), durable=True)


@dataclass(frozen=True, slots=True)
class History:
    """Content of a rounds.jsonl."""

    records: list[dict[str, Any]]
    """Records of all rounds, in order."""
    garbled: list[int]
    """Numbers, from 1, of the lines that are not records. A line that a crash cut short at the end is not
    counted."""


def read_history(path: Path) -> History:
    """Return every round's record, and which lines are damaged; both are empty if there is no file yet.

    Raises:
        FlamesError: the file cannot be read.
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
        # Bytes after the last line's end belong to a write that was cut short.
        [number for number, record in parsed.items() if not record and number < len(lines)],
    )


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line; None if it is not the record of a round."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("round"), int):
        return None
    return _with_current_names(record)


def _with_current_names(record: dict[str, Any]) -> dict[str, Any]:
    """Return a round's record with the names of this version; version 2 of flames-run had other ones.

    A rejected client had the numbers of its rejected report next to `refused`: they are left out.
    """
    renamed = {_NAMES_OF_VERSION_2.get(name, name): value for name, value in record.items()}
    if isinstance(clients := record.get("clients"), list):
        renamed["clients"] = [_client_with_current_names(client) for client in clients]
    return renamed


def _client_with_current_names(client: Any) -> Any:
    if not isinstance(client, dict) or "refused" not in client:
        return client
    identity = {name: client[name] for name in ("client", "modality", "seconds") if name in client}
    return {**identity, "rejection_reason": client["refused"]}


def read_final_models(run: RunFolder) -> dict[str, Any] | None:
    """Return the clients' reports on the final models; None if there are none yet.

    Raises:
        FlamesError: the file is damaged, or has another version.
    """
    if not run.final_models.is_file():
        return None
    found = read_json(run.final_models, FINAL_MODELS)
    check_stamp(found, FINAL_MODELS, run.final_models)
    if not isinstance(earlier := found.setdefault("earlier", []), list) or not all(
        isinstance(one, dict) and isinstance(one.get("round"), int) and isinstance(one.get("clients"), list)
        for one in (found, *earlier)
    ):
        raise FlamesError(
            f"{run.final_models} has missing entries; delete it, and rounds are chosen without it"
        )
    return found


def note_opening(path: Path, round_: int, groups: Sequence[str]) -> int:
    """Append a line for sums that are opened now, and return the largest number of openings of one group.

    A line that cannot be read counts for every group.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    append_line(path, {"round": round_, "groups": list(groups)}, durable=True)
    named = [_groups_of(line) for line in path.read_text("utf-8", errors="replace").splitlines()]
    return max(sum(found is None or group in found for found in named) for group in groups)


def _groups_of(line: str) -> list[Any] | None:
    try:
        groups = parse_json(line)["groups"]
    except (ValueError, TypeError, KeyError):
        return None
    return groups if isinstance(groups, list) else None


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Return every round's record, in order; empty if there is no file yet. Damaged lines are skipped."""
    return read_history(path).records


def truncate_rounds(path: Path, last: int) -> list[str]:
    """Delete the records of rounds after `last`: a resumed run repeats these rounds.

    Returns:
        Descriptions of what is wrong with the remaining records. A file with damaged lines is kept next to
            the repaired one.

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
        notes.append(
            f"{path} is damaged in line {lines}; the file is kept as {aside.name}, and the run continues "
            "without these lines"
        )
    if lost := [str(round_) for round_ in range(1, last + 1) if round_ not in kept]:
        notes.append(f"{path} has no line of round {', '.join(lost)}; the models have all rounds")
    text = "".join(to_line(finite(kept[round_])) for round_ in sorted(kept))
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return notes
