"""Parse the directories of TIFF files (TIFF 6.0, section 2, and BigTIFF), which describe their images."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, MEANING, FILL_ORDER, ORIENTATION = 256, 257, 258, 259, 262, 266, 274
STRIPS, SAMPLES, STRIP_ROWS, STRIP_BYTES, LAYOUT, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339

_DEFAULTS = {BITS: 1, COMPRESSION: 1, SAMPLES: 1, LAYOUT: 1, PREDICTOR: 1, SAMPLE_FORMAT: 1, ORIENTATION: 1}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
"""Types of entries that are whole numbers, as NumPy names them."""
_READ = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, MEANING, FILL_ORDER, ORIENTATION, STRIPS, SAMPLES, STRIP_ROWS),
    *(STRIP_BYTES, LAYOUT, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, SAMPLE_FORMAT),
}
_MAX_ENTRIES, _MAX_PAGES, _MAX_VALUES = 4096, 1000, 2**20
"""Limits of what is read: an image of MAX_PIXELS has fewer strips or tiles."""

Content = bytes | mmap
"""Content of a file, in memory or on the disk."""

Tags = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Directory:
    """Directory of a TIFF file, which describes one image."""

    order: str
    """Byte order of the file: < or >."""
    is_big: bool
    """True for BigTIFF."""
    tags: Tags
    """Whole numbers by tag, of the tags in _READ."""
    next_directory: int
    """Offset of the directory after it; 0 if there is none."""
    meaning_at: int
    """Offset of the value of MEANING (PhotometricInterpretation); 0 if it is missing."""

    def first(self, tag: int) -> int:
        """Return the first value of `tag`, or its default.

        Raises:
            ValueError: the tag is missing and has no default.
        """
        values = self.tags.get(tag) or ((_DEFAULTS[tag],) if tag in _DEFAULTS else ())
        if not values:
            raise ValueError(f"tag {tag} is missing")
        return values[0]

    def each(self, tag: int) -> set[int]:
        """Return the different values of `tag`, or its default."""
        return set(self.tags.get(tag) or (_DEFAULTS[tag],))


def is_tiff(data: Content) -> bool:
    """Return whether `data` starts as a TIFF or BigTIFF file."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries of a directory, not yet read."""

    order: str
    is_big: bool
    entry: struct.Struct
    start: int
    """Offset of the first entry."""
    count: int
    next_directory: int


def count_pages(data: Content) -> int:
    """Return the number of directories, counted up to _MAX_PAGES.

    Raises:
        ValueError, struct.error: see `read_directory`.
    """
    pages, following = 1, _find_entries(data).next_directory
    while following and pages < _MAX_PAGES:
        pages, following = pages + 1, _find_entries(data, following).next_directory
    return pages


def start_at_page(data: bytes, page: int) -> bytes:
    """Return the content of a file that begins with page `page` (from 1), which readers take for the first.

    Raises:
        ValueError: there is no such page.
        struct.error: see `read_directory`.
    """
    found, at = _find_entries(data), 0
    for _ in range(page - 1):
        at = found.next_directory
        if not at:
            raise ValueError(f"page {page} does not exist")
        found = _find_entries(data, at)
    if not at:
        return data
    pointer = struct.pack(found.order + ("Q" if found.is_big else "I"), at)
    first = 8 if found.is_big else 4
    return data[:first] + pointer + data[first + len(pointer) :]


def _find_entries(data: Content, start: int = 0) -> _Entries:
    """Return the entries of the directory at `start`; 0: the first one."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = 43 in data[2:4]
    pointer = order + ("Q" if is_big else "I")
    if not start:
        (start,) = struct.unpack_from(pointer, data, 8 if is_big else 4)
    count_form, entry_form = ("Q", "HHQ8s") if is_big else ("H", "HHI4s")
    entry = struct.Struct(order + entry_form)
    (count,) = struct.unpack_from(order + count_form, data, start)
    if count > _MAX_ENTRIES:
        raise ValueError(f"its directory claims {count} entries")
    first = start + struct.calcsize(order + count_form)
    (following,) = struct.unpack_from(pointer, data, first + count * entry.size)
    return _Entries(order, is_big, entry, first, count, following)


def read_directory(data: bytes) -> Directory:
    """Return the first directory of a TIFF file.

    Raises:
        ValueError, struct.error: it is damaged, has too many values, or reaches beyond the file.
    """
    found = _find_entries(data)
    tags: dict[int, tuple[int, ...]] = {}
    meaning_at = 0
    for index in range(found.count):
        at = found.start + index * found.entry.size
        tag, kind, n, value = found.entry.unpack_from(data, at)
        if tag in _READ and kind in _NUMBERS:
            tags[tag] = _values(data, found.order, kind, n, value)
        if tag == MEANING:
            meaning_at = at + found.entry.size - len(value)
    return Directory(found.order, found.is_big, tags, found.next_directory, meaning_at)


def _values(data: bytes, order: str, kind: int, n: int, value: bytes) -> tuple[int, ...]:
    if n > _MAX_VALUES:
        raise ValueError(f"its directory claims {n} values of one kind")
    dtype = np.dtype(order + _NUMBERS[kind]) if kind != 1 else np.dtype("B")
    size = n * dtype.itemsize
    if size <= len(value):
        return tuple(np.frombuffer(value[:size], dtype).tolist())
    offset = int.from_bytes(value, "little" if order == "<" else "big")
    if offset + size > len(data):
        raise ValueError("its directory reaches beyond the file")
    return tuple(np.frombuffer(data, dtype, n, offset).tolist())
