"""Atomic writing: a file is complete or absent. It is written to a temporary name in the same folder, then
moved."""

import csv
import errno
import io
import json
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from flames_cli.errors import NotWritten

TEMPORARY = ".tmp"
"""Suffix of an incomplete or deleted file or folder; such a name begins with a dot."""

DAMAGED = ".damaged"
"""Suffix of a file or folder that was found damaged and is kept for inspection; no command reads it."""

REMOVED = "~"
"""Mark after the name of a folder that is being deleted; the name of a run cannot contain it."""


def reason_of(error: OSError) -> str:
    """Return the operating system's description of the error; the error's own text may be a dump of HDF5's
    state."""
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def replacing(path: Path, synced: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` if the block ends without an error, else delete
    it.

    Args:
        path: the file.
        synced: True if the block itself forces the content to the disk.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with raising_not_written(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if not synced:
                sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            with suppress(OSError):  # if its folder could not be made, there is nothing to delete
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; like `replacing`, it then takes the place of the folder `path` in one
    step.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    with raising_not_written(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            # Only two renames happen between the old and the new folder; deleting the old folder may take
            # longer.
            doomed = _rename_aside(path)
            temporary.replace(path)
            sync(path.parent)
            shutil.rmtree(doomed, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def raising_not_written(path: Path) -> Iterator[None]:
    """Raise NotWritten if the block, which writes `path`, raises an OSError."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {reason_of(error)}; check space and rights") from error


def sync(path: Path) -> None:
    """Force the content of a file, or the list of files in a folder, to the disk.

    Without it, a moved file may be empty after a power loss.
    """
    if sys.platform == "win32" and path.is_dir():
        return  # Windows cannot open folders, and keeps their entries in order by itself
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Delete a folder, if it exists. It disappears in one step for every reader, even if the process is
    killed.

    Raises:
        OSError: it cannot be renamed. A file in it that cannot be deleted raises no error, because no reader
            sees it.
    """
    shutil.rmtree(_rename_aside(path), ignore_errors=True)


def _rename_aside(path: Path) -> Path:
    """Rename a folder, if it exists, to a name that every command ignores, and return its new path."""
    doomed = path.with_name(f".{path.name}{REMOVED}{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with suppress(FileNotFoundError):
        path.replace(doomed)
    return doomed


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete the incomplete files that killed processes left in `folder` when they wrote `name`.

    The caller makes sure that no other process writes them now.
    """
    for path in folder.glob(f".{name}{TEMPORARY}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data` to a file without a buffer: a disk that fills up accepts the first bytes and fails
    on the next write."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with \\n line ends, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, atomically: others cannot read it at any moment."""
    with replacing(path) as temporary, os.fdopen(_create_private(temporary), "wb") as file:
        file.write(content)


def make_private_folder(folder: Path) -> None:
    """Make `folder`, if it is missing, readable only by its owner.

    Raises:
        FlamesError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{folder} cannot be made: {reason_of(error)}; check space and rights") from error


def _create_private(path: Path) -> int:
    """Create a file with its final access rights: setting them later would leave it readable for a moment."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically; keys keep their order."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """Return `value` with null for every number that is not finite, because JSON has no such numbers."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV with a header line, atomically; floats in full precision."""
    write_text(path, _csv_text(header, rows))


def write_private_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV like `write_csv`, readable only by the owner; bytes in file names that are not text stay
    unchanged."""
    make_private_folder(path.parent)
    write_private(path, _csv_text(header, rows).encode("utf-8", "surrogateescape"))


def _csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    # The writer quotes the characters of its line end only, and readers take both \r and \n as line ends.
    writer = csv.writer(_Lines(buffer), lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


class _Lines:
    """File that ends each line with \n in place of \r\n."""

    def __init__(self, buffer: io.StringIO) -> None:
        self._buffer = buffer

    def write(self, line: str) -> int:
        """Write one line, which ends with \r\n."""
        return self._buffer.write(line.removesuffix("\r\n") + "\n")
