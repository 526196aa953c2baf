"""Check of an HDF5 file before any of it is read. HDF5 also allows links to other files, pixels stored
elsewhere, filters loaded as plugins, and shapes that claim far more bytes than are stored."""

import math
from pathlib import Path

import h5py

MAX_INFLATION = 1032
"""Largest number of bytes that deflate can make of one byte (zlib.net, Technical Details); data that claim
more are never allocated."""

MAX_DEPTH = 3
"""Depth of groups within groups: test, a test set, its volume."""

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}
_KINDS = "uifS"
"""Kinds of types that are allowed: numbers, and texts of a fixed width; no type that refers to another
object."""


def check_contents(file: h5py.File, path: Path) -> None:
    """Check that `file` contains only objects that FLAMES writes.

    Raises:
        ValueError: `file`, opened from `path`, contains links, objects or data that no FLAMES file has.
    """
    stored, held = _check_group(file, 0), path.stat().st_size
    if stored > held:
        raise ValueError(f"it claims {stored} bytes of data, and has {held}")


def _check_group(group: h5py.Group, depth: int) -> int:
    """Return the number of bytes that the group's data take in the file."""
    if depth > MAX_DEPTH:
        raise ValueError("its groups are nested too deeply")
    stored = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r:.40} is a link")
        item = group[name]
        if h5py.h5o.get_info(item.id).rc != 1:
            raise ValueError(f"{name!r:.40} has two names")
        if isinstance(item, h5py.Group):
            stored += _check_group(item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            stored += _check_dataset(item)
        else:
            raise ValueError(f"{name!r:.40} is neither data nor a group")
    return stored


def _check_dataset(dataset: h5py.Dataset) -> int:
    """Return the number of bytes that the data set takes in the file."""
    how, shape = dataset.id.get_create_plist(), dataset.shape
    if shape is None or dataset.dtype.kind not in _KINDS:
        raise ValueError("it contains data that are neither numbers nor texts")
    if how.get_layout() == h5py.h5d.VIRTUAL or how.get_external_count():
        raise ValueError("its data are in another file")
    filters = {how.get_filter(number)[0] for number in range(how.get_nfilters())}
    if not filters <= _FILTERS:
        raise ValueError("its data are packed with a filter that FLAMES does not use")
    claimed, stored = math.prod(map(int, shape)) * dataset.dtype.itemsize, int(dataset.id.get_storage_size())
    if claimed > stored * (MAX_INFLATION if filters else 1):
        raise ValueError(f"it claims {claimed} bytes of data, {stored} are stored")
    if any(chunk > max(size, 1) for chunk, size in zip(dataset.chunks or (), shape, strict=False)):
        raise ValueError("its chunks are larger than its data")
    return stored
