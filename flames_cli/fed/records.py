"""A message's records: weights narrowed and packed, and read where they lie."""

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
"""How arrays begin that numpy saved."""

WIRE = "wire"
"""Where floats were narrowed: as what (`type`), and by RECORD/ENTRY what each of them was."""


LONGEST_HEADER = 1024
"""Of an array; numpy's own take about a hundred bytes."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Weights ready to travel, in as many messages as there are clients to have them."""

    record: ArrayRecord
    dtypes: dict[str, str]
    """By entry, what `narrow` made narrower."""


def add_arrays(content: RecordDict, wire: str, parts: Mapping[str, Weights | Packed | None]) -> None:
    """Put weights into a message's `content`, by name of their record, with floats as `wire`.

    Raises:
        FlamesError: no such type, or a value beyond its range.
    """
    told: dict[str, str] = {}
    for record, weights in parts.items():
        if weights is not None:
            packed = weights if isinstance(weights, Packed) else narrow_and_pack(weights, wire)
            content[record] = packed.record
            told |= {f"{record}/{name}": dtype for name, dtype in packed.dtypes.items()}
    if told:
        content[WIRE] = ConfigRecord({"type": wire, **told})


def narrow_and_pack(weights: Weights, wire: str) -> Packed:
    """Weights as they travel, with floats as `wire`.

    Raises:
        FlamesError: no such type, or a value beyond its range.
    """
    narrowed, dtypes = narrow(weights, wire)
    return Packed(pack_weights(narrowed), dtypes)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Weights as Flower carries them; 0-d counters keep their shape."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in weights.items()})


def unpack_weights(message: Message, name: str) -> Weights:
    """The weights called `name` in `message`, in the sender's order and types; read-only, in its memory.

    Raises:
        TypeError, ValueError: arrays that are not in numpy's format.
        FlamesError: floats that travel as no type that is known, or other ones than said.
    """
    weights = {entry: _view(array) for entry, array in record_of(message, name, ArrayRecord).items()}
    if WIRE not in message.content:
        return weights
    told = config_of(message, WIRE)
    start = f"{name}/"
    dtypes = {key.removeprefix(start): str(told[key]) for key in told if key.startswith(start)}
    return widen(weights, str(told.get("type")), dtypes)


def _view(array: Array) -> NDArray[Any]:
    """What `array.numpy()` gives, not copied: a server reads as many models as there are clients.

    And no more than that: numpy's own reader takes zip archives too, allocates what a header claims before it
    looks at what is there, and knows arrays of anything.
    """
    if array.stype != "numpy.ndarray":
        raise TypeError(f"an array is {sanitise(array.stype)!r}, expected 'numpy.ndarray'")
    if not array.data.startswith(_NUMPY_FORMAT):
        raise ValueError(
            "an array is not as numpy saves numbers (format 1.0); nothing else is read, no pickle"
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
    """(shape, whether columns come first, dtype); slow to read, and the same from every client."""
    try:
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except Exception as error:  # numpy has Python parse it, which can fail in any way at all
        raise ValueError(f"an array's header cannot be read ({type(error).__name__})") from error
    if dtype.kind not in "biuf":
        raise TypeError(f"an array is of {sanitise(str(dtype))}, expected numbers")
    return shape, columns_first, dtype


def message_bytes(message: Message) -> int:
    """Bytes of the arrays in `message` as they travel."""
    records = (record for record in message.content.values() if isinstance(record, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())


def config_of(message: Message, name: str) -> dict[str, Any]:
    """The values of the configuration called `name`. Raises KeyError where there is none."""
    return dict(record_of(message, name, ConfigRecord))


def record_of(message: Message, name: str, kind: type[R]) -> R:
    """The record called `name`. Raises KeyError where there is none of that kind.

    Flower's own views by kind (`array_records`) refer to themselves and to the message, whose arrays then
    stay in memory until the garbage collector next comes by.
    """
    record = message.content.get(name)
    if not isinstance(record, kind):
        raise KeyError(name)
    return record
