"""Checkpoints: one folder per round, with safetensors files and a JSON index, moved into place when
complete."""

import errno
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.core.federated.choice import Preference
from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.progress import Progress
from flames_cli.core.federated.reports import LastReport, Moved, OpenedSum, State
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.checkpoint_files import FileWriter, LastFiles, Saved
from flames_cli.store.checkpoint_progress import parse_progress, write_progress
from flames_cli.store.files.atomic import (
    DAMAGED,
    raising_not_written,
    reason_of,
    remove_folder,
    remove_leftovers,
    replacing_folder,
    write_json,
)
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.parse import parse_json
from flames_cli.store.schema import CHECKPOINT, check_stamp, stamp
from flames_cli.store.weights import map_safetensors, read_safetensors

INDEX = "state.json"

SEAL = "index_sha256"
"""Entry of an index for its own checksum, computed over all other entries."""

_FILE = re.compile(r"[A-Za-z0-9._%+ ~-]+\.safetensors")
"""File names that `FileWriter` writes: plain names, in the checkpoint's own folder."""

_ROUND = re.compile(r"^round-(\d{5,})$")


class DamagedCheckpoint(FlamesError):
    """Error for a round's checkpoint that differs from what was written; the round before may still be
    complete."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(
            f"the checkpoint {folder} is damaged ({what}); run `flames federate` again, which goes back to "
            "the round before"
        )
        self.round_folder = folder
        self.what = what


Check = Callable[[State], None]


def nothing_more(state: State) -> None:
    """Accept every state that can be read."""


def save_state(
    folder: Path, state: State, keep: int, best: Collection[int] = (), last: LastFiles | None = None
) -> Path:
    """Write `state` to `folder`/round-NNNNN and delete all but the newest `keep` rounds and the `best` ones.

    Args:
        folder: folder of the run's checkpoints.
        state: state after its round.
        keep: number of newest rounds to keep, above 0.
        best: further rounds to keep.
        last: the files of the run's last checkpoint, which are replaced by those of this one.

    Raises:
        FlamesError: the folder cannot be written; no partial checkpoint is left.
    """
    target = round_folder(folder, state.round)
    with replacing_folder(target) as temporary:
        written = _write(temporary, state, last)
    if last:
        last.replace({file: replace(saved, path=target / file) for file, saved in written.items()})
    delete_older_rounds(folder, keep, best)
    return target


def save_statistics(folder: Path, state: State) -> None:
    """Add the statistics of `state` to the stored checkpoint of its round; the other files stay as they are.

    The index is replaced last and in one step, so that a process that is killed leaves the checkpoint without
    statistics. Nothing else can be lost, which matters for a round that no run repeats.

    Raises:
        FlamesError: the checkpoint is damaged, or the folder cannot be written.
    """
    target = round_folder(folder, state.round)
    remove_leftovers(target)
    index = _Reader(folder, state.round).index
    if index["version"] != CHECKPOINT.version:
        with replacing_folder(target) as temporary:
            _write(temporary, state)
        return
    found = index["statistics"] or {}
    earlier = {file for files in found.values() for file in files.values()}
    sha256 = {file: checksum for file, checksum in index["sha256"].items() if file not in earlier}
    if earlier:
        write_index(target, {**index, "statistics": None, "sha256": sha256})
    written = FileWriter(target, is_new=False)
    statistics = written.statistics(state.statistics)
    write_index(target, {**index, "statistics": statistics, "sha256": {**sha256, **written.sha256}})


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write a checkpoint's index, with its own checksum, to the folder of its round."""
    write_json(folder / INDEX, {**index, SEAL: _seal(index)})


def _write(folder: Path, state: State, last: LastFiles | None = None) -> dict[str, Saved]:
    """Write all files of a checkpoint to a folder that no reader sees yet, and return them by name."""
    written = FileWriter(folder, is_new=True, last=last)
    index = {
        **stamp(CHECKPOINT),
        "round": state.round,
        "server": written.by_name("server", state.server),
        "personal": written.personal(state.personal),
        "memory": written.by_kind("memory", state.optimiser_state),
        "styles": written.by_name("style", state.styles),
        "releases": state.releases,
        "statistics": written.statistics(state.statistics),
        "preferences": {name: asdict(one) for name, one in state.preferences.items()},
        **({"progress": write_progress(written, state.progress)} if state.progress else {}),
        "clients": {name: asdict(last) for name, last in state.clients.items()},
        **({"sums": written.sums(state.sums)} if state.sums else {}),
        "sha256": written.sha256,
    }
    write_index(folder, index)  # and with it the folder's list of files
    return written.saved


def _seal(index: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an index, since a bit may flip in a client's name as well as in a weight."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def round_folder(folder: Path, round_: int) -> Path:
    """Return the folder of `round_` in `folder`."""
    return folder / f"round-{round_:05d}"


def index_path(folder: Path, round_: int) -> Path:
    """Return the path of the checkpoint index of `round_`, which has the names and checksums of its files."""
    return round_folder(folder, round_) / INDEX


def list_rounds(folder: Path) -> list[int]:
    """Return the rounds that have a folder in `folder`, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _ROUND.match(path.name)))


def delete_older_rounds(folder: Path, keep: int, best: Collection[int] = ()) -> None:
    """Delete the folders of all but the newest `keep` rounds and the `best` ones; folders that cannot be
    deleted stay."""
    remove_leftovers(folder)
    for old in list_rounds(folder)[:-keep]:
        if old not in best:
            with suppress(OSError):
                remove_folder(round_folder(folder, old))


def load_newest_complete(
    folder: Path, check: Check = nothing_more, mapped: bool = False
) -> tuple[State, list[DamagedCheckpoint]]:
    """Return the state after the newest complete round, and the damage of the rounds after it.

    Args:
        folder: folder of the run's checkpoints.
        check: checks a state that was read; raises DamagedCheckpoint if the run cannot continue from it.
        mapped: as in `load_state`.

    Raises:
        FlamesError: no round is complete; or a checkpoint has another version, or cannot be read for a reason
            outside of it.
    """
    damaged: list[DamagedCheckpoint] = []
    for round_ in reversed(list_rounds(folder)):
        try:
            state = load_state(folder, round_, mapped)
            check(state)
            return state, damaged
        except DamagedCheckpoint as error:
            damaged.append(error)
    found = f"{damaged[0].round_folder.name}: {damaged[0].what}" if damaged else "there is none"
    raise FlamesError(
        f"no checkpoint in {folder} is complete ({found}); copy one back from a backup, or pass --fresh to "
        "start again"
    )


def set_aside(damaged: Path) -> Path:
    """Rename a checkpoint's folder so that no command reads it again, and return its new path.

    Raises:
        NotWritten: it cannot be renamed.
    """
    aside = damaged.with_name(f"{damaged.name}{DAMAGED}")
    with raising_not_written(aside):
        remove_folder(aside)
        damaged.replace(aside)
    return aside


def load_state(folder: Path, round_: int | None = None, mapped: bool = False) -> State:
    """Return the state after `round_`, by default the newest round.

    Args:
        folder: folder of the run's checkpoints.
        round_: number of the round; None: the newest.
        mapped: True to leave the clients' own models on the disk, so that not all are in the memory. Nobody
            may change their files meanwhile; deleting them is harmless.

    Raises:
        MissingArtifact: there is no checkpoint.
        DamagedCheckpoint: a file is missing, or differs from what was written (its checksum differs).
        FlamesError: it has another version, or cannot be read for a reason outside of it.
    """
    stored = _Reader(folder, round_)
    return State(
        round=stored.round,
        server=stored.by_name("server"),
        personal=stored.by_name("personal", mapped),
        optimiser_state=stored.by_kind("memory"),
        styles=stored.by_name("styles"),
        clients=stored.clients,
        releases=stored.releases,
        statistics=stored.statistics,
        preferences=stored.preferences,
        progress=stored.progress,
        sums=stored.sums,
    )


def read_index(folder: Path, round_: int) -> dict[str, Any]:
    """Return the index of `round_` without its own checksum; the files that it names are not read.

    Raises:
        DamagedCheckpoint: it is missing or damaged.
        FlamesError: it has another version.
    """
    return _Reader(folder, round_).index


class _Reader:
    """Reader of the files that one checkpoint's index names; it checks each file against its checksum."""

    def __init__(self, folder: Path, round_: int | None) -> None:
        self._path = _find(folder, round_)
        self._index = self._read_index()

    def _read_index(self) -> dict[str, Any]:
        path = self._path / INDEX
        try:
            with self._reading(INDEX):
                index = parse_json(path.read_bytes())
        except ValueError as error:
            raise self._damaged(f"{INDEX} cannot be read as JSON") from error
        if not isinstance(index, dict) or index.get("format") != CHECKPOINT.name:
            raise self._damaged(f"{INDEX} is not of {CHECKPOINT.name}")
        check_stamp(index, CHECKPOINT, path)
        if index.pop(SEAL, None) not in (None, _seal(index)):  # None: written by an earlier release
            raise self._damaged(f"the checksum of {INDEX} differs")
        return index

    @property
    def index(self) -> dict[str, Any]:
        """The index as it is stored, without its checksum."""
        return self._index

    @property
    def round(self) -> int:
        with self._entries_expected():
            if self._path.name != round_folder(self._path, int(self._index["round"])).name:
                raise self._damaged(f"{INDEX} is of round {self._index['round']}")
            return int(self._index["round"])

    @property
    def clients(self) -> dict[str, LastReport]:
        with self._entries_expected():
            return {name: _last_report(**stored) for name, stored in self._index["clients"].items()}

    @property
    def preferences(self) -> dict[str, Preference]:
        with self._entries_expected():
            found = self._index.get("preferences", {})
            if unknown := [name for name in found if name not in self._index["personal"]]:
                raise self._damaged(f"{INDEX} has no weights of client {unknown[0]}, which chooses")
            return {str(name): _preference(**stored) for name, stored in found.items()}

    @property
    def progress(self) -> Progress | None:
        with self._entries_expected():
            found = self._index.get("progress")
            return None if found is None else parse_progress(found, lambda file: self._read(file, True))

    @property
    def sums(self) -> tuple[OpenedSum, ...]:
        with self._entries_expected():
            return tuple(
                OpenedSum(
                    group=str(one["group"]),
                    round=int(one["round"]),
                    clients=tuple(str(client) for client in one["clients"]),
                    words=self._read(one["file"]),
                    session=str(one["session"]),
                    total=float(one["total"]),
                    preferences=tuple(map(float, one.get("preferences", ()))),
                )
                for one in self._index.get("sums", [])
            )

    @property
    def releases(self) -> int:
        with self._entries_expected():
            return int(self._index.get("releases", 0))

    @property
    def statistics(self) -> FinalStatistics | None:
        with self._entries_expected():
            found = self._index.get("statistics")
            if found is None:
                return None
            return FinalStatistics(
                clients={name: self._read(file) for name, file in found["clients"].items()},
                groups={name: self._read(file) for name, file in found["groups"].items()},
                modalities={name: self._read(file) for name, file in found.get("modalities", {}).items()},
            )

    def by_name(self, key: str, mapped: bool = False) -> dict[str, Weights]:
        with self._entries_expected():
            return {name: self._read(file, mapped) for name, file in self._index[key].items()}

    def by_kind(self, key: str) -> dict[str, dict[str, Weights]]:
        with self._entries_expected():
            return {
                owner: {kind: self._read(file) for kind, file in kinds.items()}
                for owner, kinds in self._index[key].items()
            }

    def _read(self, file: str, mapped: bool = False) -> Weights:
        # The index may come from elsewhere: only files in the same folder belong to this checkpoint.
        if not _FILE.fullmatch(file):
            raise self._damaged(f"{INDEX} names '{file}', which is not a file of a checkpoint")
        with self._reading(file):
            checksum = hash_file(self._path / file)
        if checksum != self._index["sha256"][file]:
            raise self._damaged(f"the checksum of {file} differs")
        if mapped:
            # A process can open a limited number of files; and the next line says what is wrong with a file.
            with suppress(OSError, ValueError, KeyError, TypeError):
                return map_safetensors(self._path / file)
        return read_safetensors(self._path / file)

    @contextmanager
    def _reading(self, file: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise self._damaged(f"{file} is missing") from error
        except OSError as error:
            if error.errno == errno.EIO:
                raise self._damaged(f"the disk fails to read {file}") from error
            raise FlamesError(
                f"{self._path / file} cannot be read: {reason_of(error)}; check its rights"
            ) from error

    @contextmanager
    def _entries_expected(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise self._damaged(f"{INDEX} has missing entries ({error})") from error

    def _damaged(self, what: str) -> DamagedCheckpoint:
        return DamagedCheckpoint(self._path, what)


def _last_report(group: str, round: int, moved: dict[str, Any]) -> LastReport:
    norms = {str(part): float(norm) for part, norm in moved["norms"].items()}
    return LastReport(str(group), int(round), Moved(norms, int(moved["steps"])))


def _preference(n_examples: int, patients: int, rounds: float, gains: dict[str, Any]) -> Preference:
    by_candidate = {str(name): float(gain) for name, gain in gains.items()}
    return Preference(int(n_examples), int(patients), float(rounds), by_candidate)


def _find(folder: Path, round_: int | None) -> Path:
    """Return the checkpoint folder of `round_`, by default of the newest round."""
    rounds = list_rounds(folder)
    if not rounds or (round_ is not None and round_ not in rounds):
        wanted = "checkpoint" if round_ is None else f"checkpoint of round {round_}"
        raise MissingArtifact(f"no {wanted} in {folder}; make it with `flames federate`")
    return round_folder(folder, rounds[-1] if round_ is None else round_)
