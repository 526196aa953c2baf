"""Salt: the secret with which a site makes its patients' pseudonyms. It is drawn once, stays at the site and
is never sent."""

import csv
import os
import re
import secrets
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from flames_cli.core.pseudonyms import SALT_BYTES
from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import make_private_folder, raising_not_written, reason_of, write_private

PRIVATE = "private"
"""Folder of a workspace that never leaves the site."""

_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_MAKE = "umask 077; openssl rand -hex 32 > FILE"


def salt_path(workspace: Path) -> Path:
    """Return the path of the workspace's own salt."""
    return workspace / PRIVATE / "salt"


def table_path(workspace: Path, dataset: str) -> Path:
    """Return the path of the private table of `dataset`, which maps pseudonyms to patients."""
    return workspace / PRIVATE / f"{dataset}.csv"


def read_known_ids(table: Path) -> dict[str, str]:
    """Return {pseudonym: id of the patient} of a private table; empty if the table does not exist.

    Raises:
        FlamesError: it is not such a table.
    """
    if not table.exists():
        return {}
    try:
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row["pseudonym"]: row["patient"] or "" for row in csv.DictReader(file)}
    except (OSError, KeyError, csv.Error) as error:
        raise FlamesError(
            f"the table {table} of pseudonyms and patients cannot be read; restore it from a backup, or make "
            "it again with `flames preprocess --overwrite`"
        ) from error


def make_salt(path: Path) -> None:
    """Draw a salt and store it at `path`, readable only by the owner; an existing salt stays.

    Raises:
        FlamesError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    make_private_folder(path.parent)
    try:
        write_private(new, secrets.token_hex(SALT_BYTES).encode() + b"\n")
        with raising_not_written(path):
            _move_unless_there(new, path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _move_unless_there(new: Path, path: Path) -> None:
    """Move `new` to `path` unless it exists: of two processes that begin simultaneously, both use the first
    one's salt."""
    try:
        os.link(new, path)
    except FileExistsError:
        return
    except OSError:  # a disk without hard links
        new.replace(path)


def read_salt(path: Path) -> bytes:
    """Return the salt in `path`, SALT_BYTES bytes or more.

    Raises:
        FlamesError: it cannot be read, is too short, is not hexadecimal, or others may read it.
    """
    try:
        content = path.read_bytes().strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise FlamesError(
            f"the salt {path} cannot be read: {reason_of(error)}; pass an existing one with --salt-file, "
            f"such as another workspace's {PRIVATE}/salt, or make one ({_MAKE})"
        ) from error
    if not _HEX.fullmatch(content) or len(content) < 2 * SALT_BYTES:
        raise FlamesError(
            f"the salt {path} has {len(content)} characters, expected {2 * SALT_BYTES} or more hex digits; "
            f"put the site's salt back or make one ({_MAKE})"
        )
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise FlamesError(
            f"the salt {path} can be read by others (mode {mode:04o}), expected only by its owner (0600); "
            "run chmod 600 on it, or keep it on a disk that has rights and pass --salt-file"
        )
    return bytes.fromhex(content.decode())
