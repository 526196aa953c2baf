"""Offline files of Weights & Biases, read back: the last round that is really on the disk.

W&B's own process writes them later than it is asked to, and loses what it has not written when it is killed.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

MESSAGES: Any = wandb_internal_pb2
"""W&B's messages, whose classes are made on import."""

HEADER, BLOCK, CHUNK = 7, 32768, struct.Struct("<IHB")
"""Sizes in bytes of the file's header and of a block, and the header of a chunk: checksum, length, kind."""

COMPLETE, LAST = 1, 4
"""Kinds of the chunks that end a record."""


def last_round(file: Path) -> int:
    """Return the last round in an offline file, 0 if there is none; a record that was cut short ends it."""
    last = 0
    for content in _records(file.read_bytes()):
        record = MESSAGES.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            last = max(last, int(record.history.step.num))
    return last


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format."""
    place, record = HEADER, b""
    while place + CHUNK.size <= len(data):
        if (left := BLOCK - place % BLOCK) < CHUNK.size:
            place += left
            continue
        _, length, kind = CHUNK.unpack_from(data, place)
        place += CHUNK.size
        if place + length > len(data) or not kind:
            return
        record += data[place : place + length]
        place += length
        if kind in (COMPLETE, LAST):
            yield record
            record = b""
