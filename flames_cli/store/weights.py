"""Model weights in safetensors files: arrays by name, and strings about them. No pickle.

safetensors sorts the arrays and shuffles the metadata. Therefore one metadata entry stores the arrays' order
and the caller's metadata as JSON: the same weights give the same bytes, and are read in the same order.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import replacing, write_all
from flames_cli.store.files.parse import parse_json

_ENTRY = "flames"

_TYPES = {
    **{"uint64": "U64", "int64": "I64", "float64": "F64", "complex64": "C64"},
    **{"float32": "F32", "uint32": "U32", "int32": "I32"},
    **{"float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"},
}
"""Types of the format by numpy's name, in the order in which their arrays are stored."""

_NAMES = {dtype: name for name, dtype in _TYPES.items()}

_PIECE = 1 << 20
"""Number of bytes that are hashed and written in one step, small enough for the processor's cache."""

MAX_HEADER_BYTES = 4 * 2**20
"""Largest header of names, types and shapes, which the library reads completely; that of a DenseNet121 has
0.1 MB."""


def write_safetensors(path: Path, weights: Weights, metadata: dict[str, str] | None = None) -> str:
    """Write `weights` to `path`, completely or not at all; make its folder if it is missing.

    Returns:
        The SHA-256 of the file.

    Raises:
        NotWritten: the disk is full.
        FlamesError: the arrays cannot be written.
    """
    with replacing(path, synced=True) as temporary:
        return write_new_file(temporary, weights, metadata)


def write_new_file(path: Path, weights: Weights, metadata: dict[str, str] | None = None) -> str:
    """Write `weights` to a file that does not exist yet, force it to the disk, and return its SHA-256.

    The bytes are those of the library's own `save_file`, which would need another pass for the checksum. A
    reader may see an incomplete file: this is for files in a folder that no reader sees yet.

    Raises:
        OSError: the disk is full.
        FlamesError: the arrays cannot be written.
    """
    digest = hashlib.sha256()
    with path.open("xb", buffering=0) as file:
        for piece in _pieces(path, weights, metadata or {}):
            digest.update(piece)
            write_all(file, piece)
        os.fsync(file.fileno())
    return digest.hexdigest()


def spill(path: Path, weights: Weights) -> None:
    """Write `weights` to a new file for this process alone; raises as `write_new_file`."""
    with path.open("xb", buffering=0) as file:
        for piece in _pieces(path, weights, {}):
            write_all(file, piece)


def map_safetensors(path: Path) -> Weights:
    """Return the arrays of a file of `write_new_file` or `spill` as read-only views of the file on the disk.

    The system reads them when they are used, and may drop them from the memory at any time. The file may be
    deleted meanwhile.

    Raises:
        OSError: the file cannot be opened.
        ValueError, KeyError, TypeError: another tool wrote it.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    entries = parse_json(content[8:start])
    _, order = _unpacked(entries.pop("__metadata__"))
    return {name: _view(content, start, **entries[name]) for name in order}


def _view(
    content: mmap.mmap, start: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> NDArray[Any]:
    kind = np.dtype(_NAMES[dtype]).newbyteorder("<")
    begin, end = data_offsets
    flat = (
        np.frombuffer(content, kind, (end - begin) // kind.itemsize, start + begin) if end > begin else None
    )
    return np.zeros(shape, kind) if flat is None else flat.reshape(shape)


def _pieces(path: Path, weights: Weights, metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """Yield the bytes of a file, in pieces that stay in the processor's cache."""
    arrays = {name: _as_stored(path, name, array) for name, array in weights.items()}
    yield memoryview(_header(arrays, weights, metadata))
    for array in _in_file_order(arrays).values():
        part = _bytes_of(array)
        for start in range(0, len(part), _PIECE):
            yield part[start : start + _PIECE]


def _as_stored(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in the memory order and the byte order of the file."""
    if array.dtype.newbyteorder("=").name not in _TYPES:
        raise FlamesError(f"{path} cannot be written ('{name}' is {array.dtype}): check the arrays")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _in_file_order(arrays: Weights) -> Weights:
    """Return the arrays as the library sorts them: by type, wide ones first, so that all are aligned."""
    kinds = list(_TYPES)
    return dict(sorted(arrays.items(), key=lambda entry: (kinds.index(_kind(entry[1])), entry[0].encode())))


def _header(arrays: Weights, weights: Weights, metadata: Mapping[str, str]) -> bytes:
    own = json.dumps({"order": list(weights), "metadata": metadata}, sort_keys=True)
    entries: dict[str, Any] = {"__metadata__": {_ENTRY: own}}
    end = 0
    for name, array in _in_file_order(arrays).items():
        start, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _TYPES[_kind(array)],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _kind(array: NDArray[Any]) -> str:
    return array.dtype.newbyteorder("=").name


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def hash_weights(weights: Weights) -> str:
    """Return the SHA-256 of names, types, shapes and values, which does not depend on the arrays' order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(json.dumps([name, little.dtype.str, little.shape]).encode())
        digest.update(little.reshape(-1).view(np.uint8).data if little.size else b"")
    return digest.hexdigest()


def read_safetensors(path: Path) -> Weights:
    """Return the arrays of a safetensors file, in the order in which they were written (by name if another
    tool wrote it).

    Raises:
        FlamesError: the file is missing or damaged.
    """
    _, order, weights = _read(path, arrays=True)
    return {name: weights[name] for name in order} if sorted(order) == sorted(weights) else weights


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the file; {} if it has none. Raises as `read_safetensors`."""
    return _read(path, arrays=False)[0]


def _read(path: Path, arrays: bool) -> tuple[dict[str, str], list[str], Weights]:
    if not path.is_file():
        raise FlamesError(f"no file {path}: expected weights in safetensors format")
    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            metadata, order = _unpacked(file.metadata() or {})
            names = file.keys() if arrays else []
            return metadata, order, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FlamesError(
            f"cannot read {path} ({reason}): expected a complete safetensors file; make or copy it again"
        ) from error


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {length} bytes, expected at most {MAX_HEADER_BYTES}")


def _unpacked(raw: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the caller's metadata and the arrays' order; the metadata of another tool's file is returned
    unchanged."""
    if _ENTRY not in raw:
        return raw, []
    entry: dict[str, Any] = parse_json(raw[_ENTRY])
    metadata, order = dict(entry["metadata"]), list(entry["order"])
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values(), *order)):
        raise ValueError(f"its entry '{_ENTRY}' contains more than strings")
    return metadata, order
