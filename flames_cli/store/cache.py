"""Cache of a workspace: for each raw source, what was made of it, so that an unchanged file is read once.

The entries contain patients' images and names of files. Their folder is readable only by its owner. Nothing
depends on them: an entry that is missing or damaged is made again, and one that cannot be written is left
out.
"""

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flames_cli.errors import NotWritten
from flames_cli.store.cache_entries import decode_entry, encode_entry
from flames_cli.store.files.atomic import TEMPORARY, make_private_folder, write_all

Value = TypeVar("Value")

ENTRY = re.compile(r"[0-9a-f]{64}\.[a-z-]+|\.([0-9a-f]{64}\.[a-z-]+|files)\.[0-9a-f]{8}\.tmp")
"""Names of entries, and of incomplete files."""

FREE_SHARE, FREE_BYTES = 0.05, 10 * 2**30
"""Part of the disk, and at most so many bytes, that stay free: other files need the space more."""

ABANDONED_SECONDS = 3600.0
"""Age from which an incomplete file is one of a killed process: an entry is written in seconds."""


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a file when its content was hashed: an equal state means an equal content."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @property
    def changed_s(self) -> float:
        """Time of the last change of content or name, in seconds since 1970."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose content was hashed."""

    state: FileState
    digest: str
    """SHA-256 of its content."""


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """Files of all sources of a data set, by name of the source."""

    sources: Mapping[str, tuple[KnownFile, ...]]


def cache_root(workspace: Path) -> Path:
    """Return the folder of the cache of a workspace."""
    return workspace / "cache"


@dataclass(frozen=True, slots=True)
class Cache:
    """Cache of one data set: one file for each source and part of what was made of it."""

    folder: Path

    @property
    def _list(self) -> Path:
        return self.folder / "files"

    def has(self, key: str, part: str) -> bool:
        """Return whether there is an entry."""
        return self._path(key, part).exists()

    def load(self, kind: Any, key: str, part: str) -> Any:
        """Return the entry of `key`, whose type is `kind`; None if it is missing or damaged."""
        return self._read(kind, self._path(key, part))

    def save(self, key: str, part: str, value: object) -> bool:
        """Store an entry and return True; return False if the disk has no space for it, or no rights."""
        return self._write(self._path(key, part), value)

    def load_files(self) -> Mapping[str, tuple[KnownFile, ...]]:
        """Return the files of the earlier runs, by name of the source."""
        known = self._read(KnownFiles, self._list)
        return known.sources if isinstance(known, KnownFiles) else {}

    def save_files(self, files: Mapping[str, tuple[KnownFile, ...]]) -> bool:
        """Store the files of this run in place of the earlier ones; return whether it was possible."""
        return self._write(self._list, KnownFiles(files))

    def sweep(self, used: Iterable[str], started_s: float) -> None:
        """Delete all entries except those of the keys `used` and those that were written after `started_s`,
        which may be of another command."""
        kept = {key for key in used if key}  # a source that cannot be hashed has none
        for path in _entries_in(self.folder):
            before = time.time() - ABANDONED_SECONDS if path.suffix == TEMPORARY else started_s
            with suppress(OSError):
                if path.name.partition(".")[0] not in kept and path.lstat().st_mtime < before:
                    path.unlink()

    def _path(self, key: str, part: str) -> Path:
        return self.folder / f"{key}.{part}"

    def _read(self, kind: Any, path: Path) -> Any:
        try:
            return decode_entry(kind, path.read_bytes())
        except (OSError, ValueError):
            return None

    def _write(self, path: Path, value: object) -> bool:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
        try:
            content = encode_entry(value)
            _make_folder(self.folder)
            if not _has_space(self.folder, len(content)):
                return False
            # No `sync`: after a power cut, the checksum shows that an entry is incomplete.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                write_all(file, content)
            temporary.replace(path)
        except (OSError, NotWritten, TypeError):
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)  # the workspace, with the user's own rights
        make_private_folder(folder.parent)
        make_private_folder(folder)


def _has_space(folder: Path, size: int) -> bool:
    disk = shutil.disk_usage(folder)
    return disk.free - size >= min(disk.total * FREE_SHARE, FREE_BYTES)


def making_room(workspace: Path, write: Callable[[], Value]) -> Value:
    """Return what `write` returns; if the disk is full, delete the cache of the workspace and try again.

    Raises:
        NotWritten: the disk is full without the cache, too, or there is another error.
    """
    try:
        return write()
    except NotWritten as error:
        is_full = getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not (is_full and remove_cache(workspace)):
            raise
        return write()


def remove_cache(workspace: Path) -> bool:
    """Delete the cache of all data sets; return whether there was one."""
    entries = [path for folder in cache_root(workspace).glob("*/") for path in _entries_in(folder)]
    for path in entries:
        with suppress(OSError):
            path.unlink()
    return bool(entries)


def _entries_in(folder: Path) -> list[Path]:
    """Return the entries in the folder of a data set, and incomplete ones, but no file of anybody else."""
    try:
        return [path for path in folder.iterdir() if ENTRY.fullmatch(path.name)]
    except OSError:
        return []
