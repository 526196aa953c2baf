"""Files of JSON lines that one process appends to while another reads."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from flames_cli.store.files.atomic import telling_in_one_line, write_all
from flames_cli.store.files.parse import parse_json


def to_line(record: dict[str, Any]) -> str:
    """`record` as a line of JSON, with its end."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def append_line(path: Path, record: dict[str, Any], durable: bool = False) -> None:
    """Append one line; a reader sees it whole or not yet.

    Args:
        path: of the file, made where it is missing.
        record: of the line.
        durable: whether the disk is to hold it before this returns.

    Raises:
        NotWritten: the disk is full; the file is as it was.
    """
    with telling_in_one_line(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            write_all(file, to_line(record).encode())
            if durable:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


class Tail:
    """Reads what has been appended to a file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """The new records; none where there is no file yet, or no whole new line."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [parse_json(line) for line in whole.split(b"\n") if line]
