"""Packed weights made by hand, and the entries of those in a message."""

import json
import struct

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from flames_cli.arrays import Weights
from flames_cli.fed.packed_weights import unpack
from flames_cli.fed.records import PACKED, STYPE


def entries_in(record: ArrayRecord) -> Weights:
    """Return the entries of a record of weights as they travel."""
    return unpack(record[PACKED].data)


def record_with(data: bytes, stype: str = STYPE, name: str = PACKED) -> ArrayRecord:
    """Return a record of weights whose only array has these bytes."""
    return ArrayRecord({name: Array("uint8", (len(data),), stype, data)})


def message_with(record: ArrayRecord) -> Message:
    """Return a message with one record of weights, `arrays`."""
    return Message(RecordDict({"arrays": record}), 7, "train")


def framed(header: object, data: bytes = b"", magic: bytes = b"FLAMES\0\0", version: int = 1) -> bytes:
    """Return `data` behind a header, which is JSON already if it is bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-(16 + len(text)) % 64)
    return magic + struct.pack("<II", version, len(text)) + text + data


def spaced(*arrays: np.ndarray) -> bytes:
    """Return the bytes of all arrays, each but the first at the next multiple of 64."""
    data = b""
    for array in arrays:
        data += bytes(-len(data) % 64) + array.tobytes()
    return data
