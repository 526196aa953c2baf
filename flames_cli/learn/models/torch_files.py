"""A look into a torch file before torch reads it: torch runs none of its code, but bounds none of its claims.

A file by `torch.save` is a zip archive of a pickle and the tensors' bytes, or (before torch 1.6) pickles in a
row. What torch's restricted unpickler lets a pickle call includes `bytearray(n)`, whatever n. The pickles are
only listed here, opcode by opcode; nothing is unpickled.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAX_PICKLE_BYTES = 2**20
"""Of names and shapes; a DenseNet121's take 0.1 MB."""

_KNOWN = re.compile(r"collections OrderedDict|torch(\.\w+)* \w+")
"""What the pickle of a state dict names, as `module name`; which of torch's are harmless, torch knows."""

_OLD_PICKLES = 5
"""A magic number, a version, the machine's sizes, the state dict, the storages' keys; then bytes."""


def check_torch_file(path: Path) -> None:
    """Look whether reading the file at `path` takes no more memory than its size makes likely.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: no file that `torch.save` writes of a state dict.
    """
    for stream in _pickles(path):
        for opcode, value, position in pickletools.genops(stream):
            if opcode.name == "GLOBAL" and not _KNOWN.fullmatch(str(value)):
                raise ValueError("its pickle names more than tensors")
            if opcode.name == "PROTO" and value != 2:  # torch would warn, then stumble
                raise ValueError(f"its pickle is of protocol {value}")
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
