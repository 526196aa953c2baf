"""Model weights in safetensors files: arrays by name, and strings about them. No pickle.

safetensors sorts the arrays and shuffles the metadata. Therefore one metadata entry stores the arrays' order
and the caller's metadata as JSON: the same weights give the same bytes, and are read in the same order.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.store.files.atomic import TEMPORARY, replacing
from flames_cli.store.files.parse import parse_json

_ENTRY = "flames"

MAX_HEADER_BYTES = 4 * 2**20
"""Largest header of names, types and shapes, which the library reads completely; that of a DenseNet121 has
0.1 MB."""


def write_safetensors(path: Path, weights: Weights, metadata: dict[str, str] | None = None) -> None:
    """Write `weights` to `path`, completely or not at all; make its folder if it is missing.

    Raises:
        NotWritten: the disk is full.
        FlamesError: the arrays cannot be written.
    """
    header = json.dumps({"order": list(weights), "metadata": metadata or {}}, sort_keys=True)
    # safetensors copies the memory as it is, so it would silently transpose an array in another memory order.
    arrays = {name: np.asarray(array, order="C") for name, array in weights.items()}
    with replacing(path) as temporary, _folder_for(temporary) as folder:
        try:
            save_file(arrays, folder / path.name, metadata={_ENTRY: header})
            # safetensors 0.8 lets only the owner read its file; others may read what else is in the folder.
            usual = folder / "usual"
            usual.touch()
            shutil.copymode(usual, folder / path.name)
            (folder / path.name).replace(temporary)
        except SafetensorError as error:
            reason = str(error).splitlines()[0]
            if found := re.search(r"os error (\d+)", reason):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise FlamesError(f"{path} cannot be written ({reason}): check the arrays") from error


@contextmanager
def _folder_for(temporary: Path) -> Iterator[Path]:
    """Give a folder beside `temporary`; delete it afterwards.

    safetensors writes to a temporary file with a name of its own choice first. In this folder, whose name
    ends with TEMPORARY, `remove_leftovers` finds that file after the process was killed.
    """
    folder = temporary.with_name(f"{temporary.stem}.folder{TEMPORARY}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
