"""Dataclasses as bytes and back: a checksum, a JSON header, and the raw bytes that it names.

The types of the fields decide how an entry is read, so nothing in a file can choose what is made of it.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from flames_cli.store.files.parse import parse_json

MAGIC = b"FLAMESC1"
"""First bytes of an entry; the last one is the version of this format."""

_START = struct.Struct("<8s32sQ")
"""Magic, SHA-256 of all that follows it, and length of the header."""


def encode_entry(value: Any) -> bytes:
    """Return `value` as bytes: texts, numbers, paths, bytes, arrays of bool, and dataclasses, tuples,
    mappings by text and sets of texts of these.

    Raises:
        TypeError: a field has another type.
    """
    chunks: list[bytes] = []
    tree = _to_tree(value, chunks)
    header = json.dumps([[len(chunk) for chunk in chunks], tree], separators=(",", ":")).encode("ascii")
    size = struct.pack("<Q", len(header))
    digest = hashlib.sha256(size)
    for part in (header, *chunks):
        digest.update(part)
    return b"".join([MAGIC, digest.digest(), size, header, *chunks])


def decode_entry(kind: Any, content: bytes) -> Any:
    """Return the value of type `kind` that `encode_entry` made `content` of.

    Raises:
        ValueError: the bytes are damaged, or are of another type or version.
    """
    if len(content) < _START.size:
        raise ValueError("it is too short")
    magic, digest, size = _START.unpack_from(content)
    body = memoryview(content)
    if magic != MAGIC or hashlib.sha256(body[_START.size - 8 :]).digest() != digest:
        raise ValueError("its checksum is wrong")
    try:
        lengths, tree = parse_json(bytes(body[_START.size : _START.size + size]))
        chunks, start = [], _START.size + size
        for length in lengths:
            chunks.append(bytes(body[start : start + length]))
            start += length
        if start != len(content):
            raise ValueError("its parts have other lengths than it has bytes")
        return _reader_of(kind)(tree, chunks)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError("it is an entry of another kind") from error


_PLAIN = {NoneType, bool, int, float, str}
"""Types that JSON stores as they are."""


def _to_tree(value: Any, chunks: list[bytes]) -> Any:
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    for plain in (str, int, float):  # pydicom's texts and numbers, and NumPy's float64, are subclasses
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        chunks.append(value)
        return len(chunks) - 1
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        chunks.append(np.packbits(value).tobytes())
        return [len(chunks) - 1, list(value.shape)]
    if is_dataclass(value):
        return [_to_tree(getattr(value, name), chunks) for name in _names_of(kind)]
    if isinstance(value, Mapping):
        return {key: _to_tree(item, chunks) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_to_tree(item, chunks) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"a value of type {kind.__name__} cannot be stored")


@lru_cache(maxsize=256)
def _names_of(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


_Read = Callable[[Any, list[bytes]], Any]


@lru_cache(maxsize=256)
def _reader_of(kind: Any) -> _Read:
    """Return the function that makes a value of type `kind` of its part of the tree and of all chunks."""
    origin, arguments = get_origin(kind), get_args(kind)
    if named := getattr(origin, "__value__", None):  # NDArray is a named alias from NumPy 2.5 on
        origin = get_origin(named)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        parts = [_reader_of(hints[one.name]) for one in fields(kind)]
        return lambda tree, chunks: kind(
            *(read(item, chunks) for read, item in zip(parts, tree, strict=True))
        )
    if origin in (Union, UnionType):
        (inner,) = (_reader_of(one) for one in arguments if one is not NoneType)
        return lambda tree, chunks: None if tree is None else inner(tree, chunks)
    if origin is np.ndarray:
        return _read_bits
    if origin is tuple and arguments[-1:] == (...,):
        item = _reader_of(arguments[0])
        return lambda tree, chunks: tuple([item(one, chunks) for one in tree])
    if origin is tuple:
        items = [_reader_of(one) for one in arguments]
        return lambda tree, chunks: tuple([read(one, chunks) for read, one in zip(items, tree, strict=True)])
    if origin is not None and issubclass(origin, Mapping):
        entry = _reader_of(arguments[1])
        return lambda tree, chunks: {key: entry(one, chunks) for key, one in tree.items()}
    if origin is frozenset:
        return lambda tree, _: frozenset(tree)
    if kind is Path:
        return lambda tree, _: Path(tree)
    if kind is bytes:
        return lambda tree, chunks: chunks[tree]
    if kind in _LEAVES:
        return partial(_read_leaf, _LEAVES[kind])
    raise TypeError(f"a field of type {kind} cannot be stored")


_LEAVES: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str}
"""Types that JSON has for a field's type: a field of type float may have been given an integer."""


def _read_leaf(kind: Any, tree: Any, _: list[bytes]) -> Any:
    if not isinstance(tree, kind):
        raise TypeError
    return tree


def _read_bits(tree: Any, chunks: list[bytes]) -> Any:
    index, shape = tree
    n = math.prod(shape)
    if len(chunks[index]) != -(-n // 8):  # `unpackbits` would add zeros, without a limit
        raise ValueError("an array has another size than its shape")
    bits = np.unpackbits(np.frombuffer(chunks[index], np.uint8), count=n)
    return bits.reshape(shape).astype(np.bool_)
