"""Client state between rounds, on the client's own disk: one folder per round, safetensors and their
checksums."""

from collections.abc import Mapping
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.store.checkpoint import delete_older_rounds, list_rounds, round_folder
from flames_cli.store.files.atomic import reason_of, remove_folder, replacing_folder, write_json
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.names import safe_name
from flames_cli.store.schema import CLIENT_STATE, check_stamp, read_json, stamp
from flames_cli.store.weights import read_safetensors, write_safetensors

INDEX = "memory.json"

STORED_ROUNDS = 4
"""Number of rounds that are stored. A server writes a checkpoint while the next round goes on. If it stops,
it repeats up to two rounds, and three if its newest checkpoint is lost or damaged."""


def client_folder(folder: Path, run: str, client: str) -> Path:
    """Return the folder in `folder` with the state of `client` for the run with this token."""
    return folder / run / safe_name(client)


def save_client_state(
    folder: Path, round_: int, state: Mapping[str, Weights], keep: int = STORED_ROUNDS
) -> None:
    """Store `state`, by kind, as it is after `round_`, and delete all but the newest `keep` rounds.

    Raises:
        FlamesError: the folder cannot be written; no partial state is left.
    """
    with replacing_folder(round_folder(folder, round_)) as temporary:
        temporary.chmod(0o700)  # a client's own report is nobody else's business, on this machine too
        for kind, weights in state.items():
            write_safetensors(temporary / _file(kind), weights)
            (temporary / _file(kind)).chmod(0o600)
        checksums = {kind: hash_file(temporary / _file(kind)) for kind in state}
        write_json(temporary / INDEX, {**stamp(CLIENT_STATE), "round": round_, "sha256": checksums})
    delete_older_rounds(folder, keep)


def load_client_state(folder: Path, round_: int) -> dict[str, Weights]:
    """Return the state of the newest round before `round_`, by kind; empty if there is none.

    Raises:
        FlamesError: it is damaged.
    """
    earlier = [one for one in list_rounds(folder) if one < round_]
    return _read(round_folder(folder, earlier[-1])) if earlier else {}


def load_client_state_of(folder: Path, round_: int) -> dict[str, Weights] | None:
    """Return the state after `round_`, by kind; None if it is not stored.

    Raises:
        FlamesError: it is damaged.
    """
    return _read(round_folder(folder, round_)) if round_ in list_rounds(folder) else None


def check_client_state(folder: Path, round_: int) -> None:
    """Check that the state of `round_` exists and is complete.

    Raises:
        FlamesError: it is missing or damaged.
    """
    _read(round_folder(folder, round_))


def delete_client_state_from(folder: Path, round_: int) -> None:
    """Delete the state of `round_` and later rounds: a federation that has gone back repeats these rounds.

    Raises:
        FlamesError: it cannot be deleted.
    """
    for later in (round_folder(folder, one) for one in list_rounds(folder) if one >= round_):
        try:
            remove_folder(later)
        except OSError as error:
            raise FlamesError(
                f"{later} belongs to a round that is repeated, and cannot be deleted ({reason_of(error)}); "
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
            f"the client state in {folder} cannot be read ({error}); remove that folder: the client "
            "continues with the state of the round before, or without state"
        ) from error


def _read_kind(path: Path, checksum: str) -> Weights:
    if not path.is_file() or hash_file(path) != checksum:
        raise FlamesError(f"{path.name} is missing or damaged: its checksum differs")
    return read_safetensors(path)


def _file(kind: str) -> str:
    if not kind.isidentifier():
        raise ValueError(f"{kind[:80]!r} is not a kind of client state")
    return f"{kind}.safetensors"
