"""Checkpoints: one folder a round, safetensors and a JSON, moved into place when whole."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flames_cli.arrays import Weights
from flames_cli.core.reports import LastReport, Moved, State
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.atomic import replacing_folder, write_json
from flames_cli.store.h5 import hash_file
from flames_cli.store.manifest import read_json
from flames_cli.store.schema import CHECKPOINT, check_stamp, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INDEX = "state.json"

_ROUND = re.compile(r"^round-(\d{5})$")


def save_state(folder: Path, state: State, keep: int) -> Path:
    """Write `state` to `folder`/round-NNNNN and drop all but the newest `keep` rounds.

    Args:
        folder: of the run's checkpoints.
        state: after its round.
        keep: rounds to keep, above 0.

    Raises:
        FlamesError: the folder cannot be written; no partial checkpoint is left.
    """
    target = round_folder(folder, state.round)
    with replacing_folder(target) as temporary:
        _write(temporary, state)
    keep_newest(folder, keep)
    return target


def _write(folder: Path, state: State) -> None:
    written = _Writer(folder)
    index = {
        **stamp(CHECKPOINT),
        "round": state.round,
        "server": written.by_name("server", state.server),
        "personal": written.by_name("client", state.personal),
        "memory": written.by_kind("memory", state.memory),
        "styles": written.by_name("style", state.styles),
        "releases": state.releases,
        "clients": {name: asdict(last) for name, last in state.clients.items()},
        "sha256": written.sha256,
    }
    write_json(folder / INDEX, index)


class _Writer:
    """Writes weights to files of safe names, and remembers their checksums."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sha256: dict[str, str] = {}

    def by_name(self, prefix: str, models: Mapping[str, Weights]) -> dict[str, str]:
        return {name: self._write(f"{prefix}-{safe_name(name)}", weights) for name, weights in models.items()}

    def by_kind(self, prefix: str, memory: Mapping[str, Mapping[str, Weights]]) -> dict[str, dict[str, str]]:
        # A name has no + once it is safe, so no two of these can be the same.
        return {
            owner: {
                kind: self._write(f"{prefix}-{safe_name(owner)}+{safe_name(kind)}", weights)
                for kind, weights in kinds.items()
            }
            for owner, kinds in memory.items()
        }

    def _write(self, stem: str, weights: Weights) -> str:
        file = f"{stem}.safetensors"
        write_safetensors(self._folder / file, weights)
        self.sha256[file] = hash_file(self._folder / file)
        return file


def safe_name(name: str) -> str:
    """`name` as a file's or its part: a modality may be called PET/CT. Two names never give the same."""
    quoted = quote(name, safe=" ")
    # The folder itself and the one above are names as well.
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


def round_folder(folder: Path, round_: int) -> Path:
    """Where in `folder` what is of `round_` lies."""
    return folder / f"round-{round_:05d}"


def index_path(folder: Path, round_: int) -> Path:
    """The index of the checkpoint of `round_`: the names and checksums of its files."""
    return round_folder(folder, round_) / INDEX


def list_rounds(folder: Path) -> list[int]:
    """The rounds that have a folder in `folder`, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _ROUND.match(path.name)))


def keep_newest(folder: Path, keep: int) -> None:
    """Drop the folders of all but the newest `keep` rounds."""
    for old in list_rounds(folder)[:-keep]:
        shutil.rmtree(round_folder(folder, old), ignore_errors=True)


def load_state(folder: Path, round_: int | None = None) -> State:
    """The state after `round_`, by default the newest.

    Raises:
        MissingArtifact: there is no checkpoint.
        FlamesError: a file is missing, damaged (its checksum differs) or of another version.
    """
    stored = _Reader(folder, round_)
    return State(
        stored.round,
        stored.by_name("server"),
        stored.by_name("personal"),
        stored.by_kind("memory"),
        stored.by_name("styles"),
        stored.clients,
        stored.releases,
    )


class _Reader:
    """Reads what one checkpoint's index names, each file against its checksum."""

    def __init__(self, folder: Path, round_: int | None) -> None:
        self._path = _find(folder, round_)
        index = self._path / INDEX
        self._index = read_json(index, CHECKPOINT.name)
        check_stamp(self._index, CHECKPOINT, index)

    @property
    def round(self) -> int:
        with self._entries_expected():
            return int(self._index["round"])

    @property
    def clients(self) -> dict[str, LastReport]:
        with self._entries_expected():
            return {name: _last_report(**stored) for name, stored in self._index["clients"].items()}

    @property
    def releases(self) -> int:
        with self._entries_expected():
            return int(self._index.get("releases", 0))

    def by_name(self, key: str) -> dict[str, Weights]:
        with self._entries_expected():
            return {name: self._read(file) for name, file in self._index[key].items()}

    def by_kind(self, key: str) -> dict[str, dict[str, Weights]]:
        with self._entries_expected():
            return {
                owner: {kind: self._read(file) for kind, file in kinds.items()}
                for owner, kinds in self._index[key].items()
            }

    def _read(self, file: str) -> Weights:
        path = self._path / file
        if not path.is_file() or hash_file(path) != self._index["sha256"][file]:
            raise FlamesError(
                f"{path} is missing or damaged (its checksum differs); remove {self._path} and federate again"
            )
        return read_safetensors(path)

    @contextmanager
    def _entries_expected(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise FlamesError(
                f"{self._path / INDEX} lacks entries ({error}); remove {self._path} and federate again"
            ) from error


def _last_report(group: str, round: int, moved: dict[str, Any]) -> LastReport:
    norms = {str(part): float(norm) for part, norm in moved["norms"].items()}
    return LastReport(str(group), int(round), Moved(norms, int(moved["steps"])))


def _find(folder: Path, round_: int | None) -> Path:
    """The folder of the checkpoint of `round_`, by default the newest."""
    rounds = list_rounds(folder)
    if not rounds or (round_ is not None and round_ not in rounds):
        wanted = "checkpoint" if round_ is None else f"checkpoint of round {round_}"
        raise MissingArtifact(f"no {wanted} in {folder}; make it with `flames federate`")
    return round_folder(folder, rounds[-1] if round_ is None else round_)
