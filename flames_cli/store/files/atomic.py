"""Files appear whole or not at all: written to a temporary name in the same folder, then moved."""

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
"""Ends the name of what is not whole yet, or no more; it begins with a dot."""

DAMAGED = ".damaged"
"""Ends the name of what was found so and is kept for a person to look at; nothing reads it."""

REMOVED = "~"
"""In the name of a folder that is being deleted, after its own: no run's name holds it."""


def reason_of(error: OSError) -> str:
    """The system's own words; HDF5 puts a dump of its state there."""
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; moved to `path` where the block ends well, removed where it fails.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with telling_in_one_line(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            with suppress(OSError):  # where its folder could not be made, there is nothing to remove
                temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, a temporary folder to fill; it takes the place of `path` whole.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    with telling_in_one_line(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            # Only two names change while neither is there: deleting what was there takes its time.
            doomed = _put_away(path)
            temporary.replace(path)
            sync(path.parent)
            shutil.rmtree(doomed, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def telling_in_one_line(path: Path) -> Iterator[None]:
    """Raises NotWritten where the block, which writes `path`, fails at it."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {reason_of(error)}; check space and rights") from error


def sync(path: Path) -> None:
    """Have the disk hold what is in a file, or which files a folder has.

    Without it, a machine that loses its power may come back with a moved file that is empty.
    """
    if sys.platform == "win32" and path.is_dir():
        return  # Windows opens no folders, and keeps their entries in order by itself
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Delete a folder, there or not: all of it at once for whoever looks, whenever the process ends.

    Raises:
        OSError: it cannot be taken away. That files of it cannot be deleted is none of its readers' concern.
    """
    shutil.rmtree(_put_away(path), ignore_errors=True)


def _put_away(path: Path) -> Path:
    """Rename a folder, there or not, to a name that counts for nothing; where it lies now."""
    doomed = path.with_name(f".{path.name}{REMOVED}{uuid.uuid4().hex[:8]}{TEMPORARY}")
    with suppress(FileNotFoundError):
        path.replace(doomed)
    return doomed


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left in `folder` of writing `name`. Nobody else may write it meanwhile."""
    for path in folder.glob(f".{name}{TEMPORARY}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_all(file: FileIO, data: bytes) -> None:
    """Write to a file without a buffer: a disk that fills up takes the first bytes, and fails on the next."""
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
    """Write what only its owner may read, atomically: nobody else could read it at any moment."""
    with replacing(path) as temporary, os.fdopen(_create_private(temporary), "wb") as file:
        file.write(content)


def make_private_folder(folder: Path) -> None:
    """Make `folder`, if it is not there, for its owner alone.

    Raises:
        FlamesError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{folder} cannot be made: {reason_of(error)}; check space and rights") from error


def _create_private(path: Path) -> int:
    """With its rights from the start: a chmod afterwards would come too late."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically; keys keep their order."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """`value` with null for every number that is not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV with a header line, atomically; floats in full precision."""
    write_text(path, _csv_text(header, rows))


def write_private_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """As `write_csv`, for its owner's eyes alone; bytes in files' names that are no text stay as they are."""
    make_private_folder(path.parent)
    write_private(path, _csv_text(header, rows).encode("utf-8", "surrogateescape"))


def _csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
