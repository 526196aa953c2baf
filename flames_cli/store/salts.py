"""The secret by which a site's patients get their pseudonyms: made once, kept by the site, never sent."""

import os
import re
import secrets
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from flames_cli.core.pseudonyms import SALT_BYTES
from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import make_private_folder, reason_of, telling_in_one_line, write_private

PRIVATE = "private"
"""The folder of a workspace that never leaves the site."""

_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_MAKE = "umask 077; openssl rand -hex 32 > FILE"


def salt_path(workspace: Path) -> Path:
    """Of the workspace's own salt."""
    return workspace / PRIVATE / "salt"


def table_path(workspace: Path, dataset: str) -> Path:
    """Of the private table of `dataset`: who is who."""
    return workspace / PRIVATE / f"{dataset}.csv"


def make_salt(path: Path) -> None:
    """Draw a salt and keep it at `path`, for its owner's eyes alone; one that is there already stays.

    Raises:
        FlamesError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    make_private_folder(path.parent)
    try:
        write_private(new, secrets.token_hex(SALT_BYTES).encode() + b"\n")
        with telling_in_one_line(path):
            _move_unless_there(new, path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _move_unless_there(new: Path, path: Path) -> None:
    """Of two that begin at once both go on with the first one's."""
    try:
        os.link(new, path)
    except FileExistsError:
        return
    except OSError:  # a disk without hard links
        new.replace(path)


def read_salt(path: Path) -> bytes:
    """The salt in `path`, SALT_BYTES or more of them.

    Raises:
        FlamesError: it cannot be read, holds too little or something else, or is open to others.
    """
    try:
        content = path.read_bytes().strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise FlamesError(
            f"the salt {path} cannot be read: {reason_of(error)}; pass one that is there with --salt-file, "
            f"such as another workspace's {PRIVATE}/salt, or make one ({_MAKE})"
        ) from error
    if not _HEX.fullmatch(content) or len(content) < 2 * SALT_BYTES:
        raise FlamesError(
            f"the salt {path} holds {len(content)} characters, expected {2 * SALT_BYTES} or more hex digits; "
            f"put the site's salt back or make one ({_MAKE})"
        )
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise FlamesError(
            f"the salt {path} is open to others (mode {mode:04o}), expected its owner's alone (0600); run "
            "chmod 600 on it, or keep it on a disk that has rights and pass --salt-file"
        )
    return bytes.fromhex(content.decode())
