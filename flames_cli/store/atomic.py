"""Files appear whole or not at all: written to a temporary name in the same folder, then moved."""

import csv
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flames_cli.errors import FlamesError


def reason_of(error: OSError) -> str:
    """The system's own words; HDF5 puts a dump of its state there."""
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; moved to `path` where the block ends well, removed where it fails.

    Raises:
        FlamesError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise FlamesError(f"{path} cannot be written: {reason_of(error)}; check space and rights") from error
    finally:
        with suppress(OSError):  # where its folder could not be made, there is nothing to remove
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, a temporary folder to fill; it takes the place of `path` whole.

    Raises:
        FlamesError: the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except OSError as error:
        raise FlamesError(f"{path} cannot be written: {reason_of(error)}; check space and rights") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with \\n line ends, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


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
        raise FlamesError(f"{folder} cannot be made: {reason_of(error)}; check space and rights") from error


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
