"""Files that one process appends to while another process reads, most of them of JSON lines."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from flames_cli.store.files.atomic import raising_not_written, write_all
from flames_cli.store.files.parse import parse_json


def to_line(record: dict[str, Any]) -> str:
    """Return `record` as a line of JSON, with its line end."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def append_line(path: Path, record: dict[str, Any], durable: bool = False) -> None:
    """Append one line; arguments and errors are those of `append_bytes`."""
    append_bytes(path, to_line(record).encode(), durable)


def append_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Append to a file; a reader sees all of `content` or nothing of it.

    Args:
        path: the file; it is made if it is missing.
        content: what is appended.
        durable: True to force it to the disk before this returns.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    with raising_not_written(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            write_all(file, content)
            if durable:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


class Tail:
    """Reader of the records that were appended to a file since the last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the new records; an empty list if there is no file yet, or no complete new line."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        complete = new[: new.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [parse_json(line) for line in complete.split(b"\n") if line]
