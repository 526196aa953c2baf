"""Packed weights: all entries of a model in one buffer, as a message carries them.

| bytes | content |
|---|---|
| 0 to 7 | `MAGIC` |
| 8 to 11 | version, an unsigned little-endian integer |
| 12 to 15 | number of bytes of the header, likewise |
| from 16 | header in JSON: [name, type, shape, offset] of each entry, filled up with spaces |
| then | the entries, little-endian in C order, each at its offset |

The header ends, and every entry begins, at a multiple of `ALIGNMENT` bytes; offsets count from the end of the
header. The entries follow each other in the order of the header, and no byte follows the last one.

One buffer is one array of Flower, which sends each array as objects of its own and fetches each object with
its own request. A model of 136 entries was 243 objects; a buffer is one, and one for each 5 MiB of it.
"""

import json
import math
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Weights
from flames_cli.fed.sanitise import sanitise

MAGIC = b"FLAMES\0\0"
VERSION = 1
"""Version of the format of packed weights."""
ALIGNMENT = 64

LONGEST_HEADER = 1 << 22
"""Largest size of a header in bytes; a model of 1,000 entries has a header of about 80 kB."""
LARGEST = 1 << 40
"""Largest size of an entry in bytes, counted as if dimensions of 0 were 1: numpy opens no larger shapes."""
MOST_DIMENSIONS = 32

_START = struct.Struct("<8sII")
_NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_TYPES = {dtype.str: dtype for dtype in (np.dtype(kind).newbyteorder("<") for kind in _NUMBERS)}
"""Types that an entry may have, by numpy's name."""

_Entry = tuple[str, np.dtype[Any], tuple[int, ...], int]
"""Name, type, shape and offset of an entry."""


def pack(weights: Weights) -> bytes:
    """Return the entries of `weights` as one buffer, in their order; each entry is copied once.

    Raises:
        TypeError: an entry has a type that is not sent, such as complex numbers or text.
    """
    arrays = {name: _plain(name, array) for name, array in weights.items()}
    header, end = [], 0
    for name, array in arrays.items():
        header.append([name, array.dtype.str, array.shape, _aligned(end)])
        end = _aligned(end) + array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (_aligned(_START.size + len(text)) - _START.size - len(text))
    return b"".join([_START.pack(MAGIC, VERSION, len(text)), text, *_in_place(arrays)])


def _in_place(arrays: Weights) -> Iterator[bytes | memoryview]:
    """Yield the memory of every entry, with zeros before it up to its offset."""
    end = 0
    for array in arrays.values():
        yield bytes(_aligned(end) - end)
        yield array.reshape(-1).view(np.uint8).data
        end = _aligned(end) + array.nbytes


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` in C order and little-endian; itself if it is so already."""
    plain = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if plain.dtype.str not in _TYPES:
        raise TypeError(f"'{name}' is {array.dtype}, expected numbers of at most 64 bits")
    return plain


def _aligned(offset: int) -> int:
    """Return the next multiple of ALIGNMENT at or after `offset`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def unpack(data: bytes) -> Weights:
    """Return the entries of a buffer that `pack` has made, in their order.

    The arrays are read-only views of `data`; the `base` of each is the buffer as one flat array of bytes.
    Everything is checked before an array is made, and no memory is allocated for the entries.

    Raises:
        ValueError: `data` is no such buffer, whatever it contains instead.
    """
    entries, start = _read_header(data)
    buffer = np.frombuffer(data, np.uint8)
    weights = {}
    for name, dtype, shape, offset in entries:
        begin = start + offset
        weights[name] = buffer[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    return weights


def _read_header(data: bytes) -> tuple[list[_Entry], int]:
    """Return the entries that the header describes, and the number of bytes before the first."""
    if len(data) < _START.size:
        raise ValueError(f"the packed weights have {len(data)} bytes, expected {_START.size} or more")
    magic, version, length = _START.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"the packed weights begin with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise ValueError(
            f"the packed weights have version {version}, expected {VERSION}; "
            "install the same version everywhere"
        )
    start = _START.size + length
    if length > LONGEST_HEADER or start > len(data) or start % ALIGNMENT:
        raise ValueError(
            f"the header of the packed weights claims {length} bytes of {len(data)}, expected at most "
            f"{LONGEST_HEADER} and an end at a multiple of {ALIGNMENT}"
        )
    return _check_entries(_parse(data[_START.size : start]), len(data) - start), start


def _parse(text: bytes) -> list[Any]:
    try:
        found = json.loads(text.decode(), parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("the header of the packed weights is nested too deeply") from error
    except ValueError as error:  # also text that is not UTF-8, and integers of too many digits
        raise ValueError(f"the header of the packed weights is not JSON ({type(error).__name__})") from error
    if not isinstance(found, list):
        raise ValueError(f"the header of the packed weights is {type(found).__name__}, expected a list")
    return found


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _check_entries(header: list[Any], size: int) -> list[_Entry]:
    """Return the entries of a header that describes exactly `size` bytes.

    The offset of every entry follows from the entries before it, so that none overlap or are out of order.
    """
    entries, names, end = [], set(), 0
    for described in header:
        name, dtype, shape, offset = entry = _check_entry(described)
        if name in names:
            raise ValueError(f"the packed weights contain '{sanitise(name)}' twice")
        if offset != _aligned(end):
            raise ValueError(f"'{sanitise(name)}' is packed at byte {offset}, expected {_aligned(end)}")
        names.add(name)
        entries.append(entry)
        end = offset + math.prod(shape) * dtype.itemsize
        if end > size:
            raise ValueError(f"'{sanitise(name)}' ends at byte {end}, and only {size} bytes are packed")
    if end != size:
        raise ValueError(f"the packed weights end at byte {end}, and {size} bytes are packed")
    return entries


def _check_entry(described: object) -> _Entry:
    """Return name, type, shape and offset of an entry, each of its own type and within its limits."""
    match described:
        case [str(name), str(kind), list(shape), int(offset)]:
            pass
        case _:
            raise ValueError("packed weights are described by name, type, shape and offset, one is not")
    if kind not in _TYPES:
        raise ValueError(f"'{sanitise(name)}' is packed as {sanitise(kind)!r}, expected numbers")
    if len(shape) > MOST_DIMENSIONS or not all(_counts(value) for value in (*shape, offset)):
        raise ValueError(f"'{sanitise(name)}' is packed with numbers that are not all from 0 to {LARGEST}")
    if math.prod(n or 1 for n in shape) * _TYPES[kind].itemsize > LARGEST:
        raise ValueError(f"'{sanitise(name)}' is packed with shape {tuple(shape)}, more than {LARGEST} bytes")
    return name, _TYPES[kind], tuple(shape), offset


def _counts(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST
