"""Records of a message: packing of weights, and reading of weights without a copy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from flames_cli.arrays import Weights
from flames_cli.core.federated.coding import DIFFERENCE, SAME, Coded, decode
from flames_cli.core.federated.wire import narrow, widen
from flames_cli.fed.packed_weights import pack, unpack
from flames_cli.fed.sanitise import sanitise

R = TypeVar("R", ArrayRecord, ConfigRecord, MetricRecord)

PACKED = "packed"
"""Name of the only array in a record of weights."""
STYPE = "flames.packed"
"""Type of that array (`packed_weights`), in the place where Flower names its own format."""

WIRE = "wire"
"""Name of the record that lists what does not travel as it is: the wire `type`, and by RECORD/ENTRY the
original dtype of narrowed floats, or the code of an entry of a report (`core.federated.coding`)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed weights, which can be put into several messages."""

    record: ArrayRecord
    codes: dict[str, str]
    """Original dtype of each entry that `narrow` has narrowed, or the code of each entry of a report."""


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
            narrowed |= {f"{record}/{name}": how for name, how in packed.codes.items()}
    if narrowed:
        content[WIRE] = ConfigRecord({"type": wire, **narrowed})


def narrow_and_pack(weights: Weights, wire: str) -> Packed:
    """Return packed weights, with floats in the type `wire`.

    Raises:
        FlamesError: the type is unknown, or a value is outside its range.
    """
    narrowed, dtypes = narrow(weights, wire)
    return Packed(pack_weights(narrowed), dtypes)


def pack_coded(coded: Coded) -> Packed:
    """Return the packed weights of a report."""
    return Packed(pack_weights(coded.arrays), coded.codes)


def pack_weights(weights: Weights) -> ArrayRecord:
    """Return weights as a record of Flower with one array; 0-d counters stay 0-d."""
    data = pack(weights)
    return ArrayRecord({PACKED: Array("uint8", (len(data),), STYPE, data)})


def unpack_weights(message: Message, name: str, start: Callable[[], Weights] | None = None) -> Weights:
    """Return the weights called `name` in `message`, in the sender's order and types.

    The arrays are read-only views of the message's memory where they travel as they are. `start` returns the
    weights that coded entries refer to, the model that was sent; it is called only if there are such entries.

    Raises:
        TypeError, ValueError: the record does not consist of packed weights.
        FlamesError: the wire type is unknown, or the floats are not as the message describes them.
    """
    weights = unpack(_buffer_of(record_of(message, name, ArrayRecord)))
    if WIRE not in message.content:
        return weights
    described = config_of(message, WIRE)
    here = f"{name}/"
    codes = {key.removeprefix(here): str(described[key]) for key in described if key.startswith(here)}
    if start and not {SAME, DIFFERENCE}.isdisjoint(codes.values()):
        return decode(weights, codes, str(described.get("type")), start())
    return widen(weights, str(described.get("type")), codes)


def _buffer_of(record: ArrayRecord) -> bytes:
    """Return the memory of the only array of `record`.

    Flower's own reader of arrays is not used: it also opens zip archives, allocates as much memory as a
    header claims before it looks at the data, and reads arrays of any type.
    """
    if list(record) != [PACKED]:
        raise ValueError(
            f"its weights are {len(record)} arrays, expected '{PACKED}' alone; "
            "install the same version everywhere"
        )
    array = record[PACKED]
    if array.stype != STYPE:
        raise TypeError(f"its weights are {sanitise(array.stype)!r}, expected {STYPE!r}")
    return array.data


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
