"""Checkpoints: one folder a round, safetensors and a JSON, moved into place when whole."""

import re
import shutil
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.aggregation import State
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.store.atomic import reason_of, write_json
from flames_cli.store.h5 import hash_file
from flames_cli.store.manifest import read_json
from flames_cli.store.schema import CHECKPOINT, check_stamp, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INDEX = "state.json"

_ROUND = re.compile(r"^round-(\d{5})$")


def save_state(folder: Path, state: State, keep: int) -> Path:
    """Write `state` to `folder`/round-NNNNN and drop all but the newest `keep` rounds.

    Raises:
        FlamesError: the folder cannot be written; no partial checkpoint is left.
    """
    target = folder / f"round-{state.round:05d}"
    temporary = folder / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(temporary, state)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    except OSError as error:
        raise FlamesError(
            f"{target} cannot be written: {reason_of(error)}; check space and rights"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in list_rounds(folder)[:-keep]:
        shutil.rmtree(folder / f"round-{old:05d}", ignore_errors=True)
    return target


def _write(folder: Path, state: State) -> None:
    folder.mkdir(parents=True)
    files = {
        **{f"server-{name}.safetensors": weights for name, weights in state.server.items()},
        **{f"client-{name}.safetensors": weights for name, weights in state.personal.items()},
    }
    for name, weights in files.items():
        write_safetensors(folder / name, weights)
    index = {
        **stamp(CHECKPOINT),
        "round": state.round,
        "server": {name: f"server-{name}.safetensors" for name in state.server},
        "personal": {name: f"client-{name}.safetensors" for name in state.personal},
        "sha256": {name: hash_file(folder / name) for name in files},
    }
    write_json(folder / INDEX, index)


def index_path(folder: Path, round_: int) -> Path:
    """The index of the checkpoint of `round_`: the names and checksums of its files."""
    return folder / f"round-{round_:05d}" / INDEX


def list_rounds(folder: Path) -> list[int]:
    """The rounds that have a checkpoint in `folder`, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _ROUND.match(path.name)))


def load_state(folder: Path, round_: int | None = None) -> State:
    """The state after `round_`, by default the newest.

    Raises:
        MissingArtifact: there is no checkpoint.
        FlamesError: a file is missing, damaged (its checksum differs) or of another version.
    """
    rounds = list_rounds(folder)
    if not rounds or (round_ is not None and round_ not in rounds):
        wanted = "checkpoint" if round_ is None else f"checkpoint of round {round_}"
        raise MissingArtifact(f"no {wanted} in {folder}; make it with `flames federate`")
    path = folder / f"round-{round_ if round_ is not None else rounds[-1]:05d}"
    index = read_json(path / INDEX, CHECKPOINT.name)
    check_stamp(index, CHECKPOINT, path / INDEX)
    try:
        server = {name: _read(path / file, index["sha256"][file]) for name, file in index["server"].items()}
        personal = {
            name: _read(path / file, index["sha256"][file]) for name, file in index["personal"].items()
        }
        return State(index["round"], server, personal)
    except (KeyError, TypeError, AttributeError) as error:
        raise FlamesError(
            f"{path / INDEX} lacks entries ({error}); remove {path} and federate again"
        ) from error


def _read(path: Path, expected: str) -> Weights:
    if not path.is_file() or hash_file(path) != expected:
        raise FlamesError(
            f"{path} is missing or damaged (its checksum differs); remove {path.parent} and federate again"
        )
    return read_safetensors(path)
