"""Check of a torch file before torch reads it.

With weights_only torch runs no code of the file, but it does not limit the memory that the file asks for. A
file of `torch.save` is a zip archive of a pickle and the tensors' bytes, or (before torch 1.6) a sequence of
pickles. Torch's restricted unpickler allows a pickle to call `bytearray(n)` for any n. This module only lists
the pickles' opcodes one by one; it unpickles nothing.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAX_PICKLE_BYTES = 2**20
"""Largest pickle, which contains names and shapes; a DenseNet121's has 0.1 MB."""

_KNOWN = re.compile(r"collections OrderedDict|torch(\.\w+)* \w+")
"""The names that a state dict's pickle may use, as `module name`. Torch itself checks the names of torch."""

_OLD_PICKLES = 5
"""Pickles in an old file: magic number, version, machine's sizes, state dict, keys of the storages."""


def check_torch_file(path: Path) -> None:
    """Check that the file at `path` is a state dict by `torch.save` which asks for no unlikely memory.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: the file is not such a state dict.
    """
    for stream in _pickles(path):
        for opcode, value, position in pickletools.genops(stream):
            if opcode.name == "GLOBAL" and not _KNOWN.fullmatch(str(value)):
                raise ValueError("its pickle contains more than tensors")
            if opcode.name == "PROTO" and value != 2:  # torch would warn, then fail
                raise ValueError(f"its pickle has protocol {value}, expected 2")
            if position is not None and position > MAX_PICKLE_BYTES:
                raise ValueError("its pickle is too long")


def _pickles(path: Path) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(path):
        yield from _zipped_pickles(path)
        return
    with path.open("rb") as stream:
        for _ in range(_OLD_PICKLES):
            yield stream


def _zipped_pickles(path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its archive is compressed")
            if entry.filename.lower().endswith(".pkl"):
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise ValueError("its pickle is too long")
                with archive.open(entry) as stream:
                    yield stream
