"""Records of a message: packing of weights, and reading of weights without a copy."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.core.federated.wire import narrow, widen
from flames_cli.fed.sanitise import sanitise

R = TypeVar("R", ArrayRecord, ConfigRecord, MetricRecord)

_NUMPY_FORMAT = np.lib.format.magic(1, 0)
"""First bytes of an array in numpy's file format."""

WIRE = "wire"
"""Name of the record that lists narrowed floats: their `type`, and by RECORD/ENTRY their original dtypes."""


LONGEST_HEADER = 1024
"""Largest size of an array's header in bytes; numpy itself writes about a hundred."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed weights, which can be put into several messages."""

    record: ArrayRecord
    dtypes: dict[str, str]
    """Original dtype of each entry that `narrow` has narrowed."""


def add_arrays(content: RecordDict, wire: str, parts: Mapping[str, Weights | Packed | None]) -> None:
    """Add weights to a message's `content`, by the name of their record, with floats in the type `wire`.

    Raises:
        FlamesError: the type is unknown, or a value is outside its range.
    """
    narrowed: dict[str, str] = {}
    for record, weights in parts.items():
        if weights is not None:
            packed = weights if isinstance(weights, Packed) else narrow_and_pack(weights, wire)
            content[record] = packed.record
            narrowed |= {f"{record}/{name}": dtype for name, dtype in packed.dtypes.items()}
    if narrowed:
        content[WIRE] = ConfigRecord({"type": wire, **narrowed})


def narrow_and_pack(weights: Weights, wire: str) -> Packed:
    """Return packed weights, with floats in the type `wire`.

    Raises:
        FlamesError: the type is unknown, or a value is outside its range.
    """
    narrowed, dtypes = narrow(weights, wire)
    return Packed(pack_weights(narrowed), dtypes)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Return weights as a record of Flower; 0-d counters stay 0-d."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def unpack_weights(message: Message, name: str) -> Weights:
    """Return the weights called `name` in `message`, in the sender's order and types.

    The arrays are read-only views of the message's memory.

    Raises:
        TypeError, ValueError: an array is not in numpy's format.
        FlamesError: the wire type is unknown, or the floats are not as the message describes them.
    """
    weights = {entry: _view(array) for entry, array in record_of(message, name, ArrayRecord).items()}
    if WIRE not in message.content:
        return weights
    described = config_of(message, WIRE)
    start = f"{name}/"
    dtypes = {key.removeprefix(start): str(described[key]) for key in described if key.startswith(start)}
    return widen(weights, str(described.get("type")), dtypes)


def _view(array: Array) -> NDArray[Any]:
    """Return the same as `array.numpy()` without a copy, since a server reads a model of every client.

    numpy's own reader is not used: it also opens zip archives, allocates as much memory as a header claims
    before it looks at the data, and reads arrays of any type.
    """
    if array.stype != "numpy.ndarray":
        raise TypeError(f"an array is {sanitise(array.stype)!r}, expected 'numpy.ndarray'")
    if not array.data.startswith(_NUMPY_FORMAT):
        raise ValueError(
            "an array is not in numpy's format 1.0 for numbers, the only one that is read (no pickle)"
        )
    start = len(_NUMPY_FORMAT)
    end = start + 2 + int.from_bytes(array.data[start : start + 2], "little")
    if end > LONGEST_HEADER:
        raise ValueError(f"an array's header claims {end} bytes, expected at most {LONGEST_HEADER}")
    shape, columns_first, dtype = _read_header(array.data[start:end])
    claimed, held = math.prod(shape) * dtype.itemsize, len(array.data) - end
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(f"an array's header claims {claimed} bytes, it has {held}")
    flat = np.frombuffer(array.data, dtype, math.prod(shape), end)
    return flat.reshape(shape, order="F" if columns_first else "C")


@lru_cache(maxsize=4096)
def _read_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return (shape, True if in Fortran order, dtype); cached, since reading is slow and headers repeat."""
    try:
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except Exception as error:  # numpy parses the header as Python, which can fail with any error
        raise ValueError(f"an array's header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "biuf":
        raise TypeError(f"an array is of {sanitise(str(dtype))}, expected numbers")
    return shape, columns_first, dtype


def message_bytes(message: Message) -> int:
    """Return the number of bytes of the arrays in `message`."""
    records = (record for record in message.content.values() if isinstance(record, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())


def config_of(message: Message, name: str) -> dict[str, Any]:
    """Return the values of the configuration record called `name`; KeyError if there is none."""
    return dict(record_of(message, name, ConfigRecord))


def record_of(message: Message, name: str, kind: type[R]) -> R:
    """Return the record called `name`; KeyError if there is none of that kind.

    Flower's own views by kind (`array_records`) are not used: they contain reference cycles with the message,
    so that its arrays would stay in memory until the next run of the garbage collector.
    """
    record = message.content.get(name)
    if not isinstance(record, kind):
        raise KeyError(name)
    return record
