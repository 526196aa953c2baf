"""What a client keeps between rounds, on its own disk: a folder a round, safetensors and their checksums."""

from collections.abc import Mapping
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.store.checkpoint import delete_older_rounds, list_rounds, round_folder, safe_name
from flames_cli.store.files.atomic import reason_of, remove_folder, replacing_folder, write_json
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.schema import CLIENT_STATE, check_stamp, read_json, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INDEX = "memory.json"

STORED_ROUNDS = 3
"""A server that stopped after the reports, before its checkpoint, does a round again; one whose newest
checkpoint is lost or damaged does two. Older memory than that is of no use."""


def client_folder(memory: Path, run: str, client: str) -> Path:
    """Where in `memory` lies what `client` keeps for the run with this token."""
    return memory / run / safe_name(client)


def save_client_state(folder: Path, round_: int, memory: Mapping[str, Weights]) -> None:
    """Keep `memory`, by kind, as it is after `round_`; drops all but the newest STORED_ROUNDS rounds.

    Raises:
        FlamesError: the folder cannot be written; nothing partial is left.
    """
    with replacing_folder(round_folder(folder, round_)) as temporary:
        for kind, weights in memory.items():
            write_safetensors(temporary / _file(kind), weights)
        checksums = {kind: hash_file(temporary / _file(kind)) for kind in memory}
        write_json(temporary / INDEX, {**stamp(CLIENT_STATE), "round": round_, "sha256": checksums})
    delete_older_rounds(folder, STORED_ROUNDS)


def load_client_state(folder: Path, round_: int) -> dict[str, Weights]:
    """By kind, what was kept of the newest round before `round_`; empty where there is none.

    Raises:
        FlamesError: it is damaged.
    """
    earlier = [one for one in list_rounds(folder) if one < round_]
    return _read(round_folder(folder, earlier[-1])) if earlier else {}


def check_client_state(folder: Path, round_: int) -> None:
    """Find out whether what was kept of `round_` is there and whole.

    Raises:
        FlamesError: it is not.
    """
    _read(round_folder(folder, round_))


def delete_client_state_from(folder: Path, round_: int) -> None:
    """Delete what was kept of `round_` and later: a federation that has gone back does these rounds again.

    Raises:
        FlamesError: it cannot be deleted.
    """
    for later in (round_folder(folder, one) for one in list_rounds(folder) if one >= round_):
        try:
            remove_folder(later)
        except OSError as error:
            raise FlamesError(
                f"{later} is of a round that is done again, and cannot be deleted ({reason_of(error)}); "
                "delete it by hand"
            ) from error


def _read(folder: Path) -> dict[str, Weights]:
    index = folder / INDEX
    try:
        content = read_json(index, CLIENT_STATE)
        check_stamp(content, CLIENT_STATE, index)
        return {
            kind: _read_kind(folder / _file(kind), checksum) for kind, checksum in content["sha256"].items()
        }
    except (FlamesError, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise FlamesError(
            f"what the client kept in {folder} cannot be read ({error}); remove that folder, and it goes on "
            "from what it kept a round before, or starts anew"
        ) from error


def _read_kind(path: Path, checksum: str) -> Weights:
    if not path.is_file() or hash_file(path) != checksum:
        raise FlamesError(f"{path.name} is missing or damaged: its checksum differs")
    return read_safetensors(path)


def _file(kind: str) -> str:
    if not kind.isidentifier():
        raise ValueError(f"{kind[:80]!r} is nothing that a client keeps")
    return f"{kind}.safetensors"
