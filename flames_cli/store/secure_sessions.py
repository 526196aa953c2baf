"""A client's files for secure aggregation: its open session, with secret keys, and the sums that it opened.

Both are readable only by their owner. The session is deleted when the client has opened its sum.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import make_private_folder, write_private
from flames_cli.store.files.locks import in_turn
from flames_cli.store.schema import SECURE_OPENED, check_stamp, read_json, stamp

FOLDER = "secure"
"""Folder in that of the client's state."""
SESSION, OPENED = "session", "opened.json"


@dataclass(frozen=True, slots=True)
class Opened:
    """A sum that a client has opened."""

    clients: tuple[str, ...]
    """Clients whose vectors are in the sum."""
    terms: str
    """Terms of the sum: the same clients with other factors would give another equation."""


class SecureFiles:
    """Files of one client in one run, in the folder of its client state."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    @property
    def took_part(self) -> bool:
        """True if the client has begun a session in this run."""
        return self._folder.exists()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Give this process alone these files for the block, after other processes of the client.

        Two messages that are answered simultaneously would use the same masks, or open two sums.

        Raises:
            NotWritten: the folder cannot be written.
        """
        make_private_folder(self._folder)
        with in_turn(self._folder):
            yield

    def save_session(self, content: bytes) -> None:
        """Store the open session, in place of an earlier one.

        Raises:
            NotWritten: the folder cannot be written.
        """
        make_private_folder(self._folder)
        write_private(self._folder / SESSION, content)

    def load_session(self) -> bytes | None:
        """Return the open session; None if there is none."""
        path = self._folder / SESSION
        return path.read_bytes() if path.is_file() else None

    def delete_session(self) -> None:
        """Delete the open session."""
        (self._folder / SESSION).unlink(missing_ok=True)

    def find_opened(self, purpose: str, round_: int) -> Opened | None:
        """Return the sum that this client has opened for this purpose and round; None if there is none.

        Raises:
            FlamesError: the list is damaged: without it, a second sum could be opened with other clients.
        """
        return self._read().get(_key(purpose, round_))

    def add_opened(self, purpose: str, round_: int, opened: Opened) -> None:
        """Note that this client opens a sum; raises as its neighbours."""
        known = {**self._read(), _key(purpose, round_): opened}
        make_private_folder(self._folder)
        content = {**stamp(SECURE_OPENED), "opened": {key: asdict(one) for key, one in known.items()}}
        write_private(self._folder / OPENED, _dump(content))

    def _read(self) -> dict[str, Opened]:
        path = self._folder / OPENED
        if not path.exists():
            return {}
        try:
            content = read_json(path, SECURE_OPENED)
            check_stamp(content, SECURE_OPENED, path)
            return {
                str(key): Opened(tuple(map(str, one["clients"])), str(one["terms"]))
                for key, one in content["opened"].items()
            }
        except (FlamesError, OSError, KeyError, AttributeError, TypeError, ValueError) as error:
            raise FlamesError(
                f"{path} cannot be read ({error}): it lists the sums that this client has opened, and a "
                "second sum of the same round with other clients would reveal one of them; copy it back from "
                "a backup, or start the run again under another name"
            ) from error


def _key(purpose: str, round_: int) -> str:
    return f"{purpose} {round_}"


def _dump(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
