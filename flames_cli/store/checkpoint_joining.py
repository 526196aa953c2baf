"""Checkpoints of single modalities become one checkpoint, whose files are second names of theirs."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flames_cli.core.federated.modalities import Order, merge
from flames_cli.store.checkpoint import read_index, round_folder, write_index
from flames_cli.store.files.atomic import replacing_folder

_OF_GROUPS = ("server", "memory")
"""Entries of an index by model group; those of the other dictionaries are by client."""


def join_checkpoints(parts: Sequence[Path], folder: Path, round_: int) -> None:
    """Write the checkpoint of `round_` to `folder`, made of those in the folders `parts`, one for each
    modality.

    No weights are written again: each file gets a second name, or is copied where the disk has no links. No
    file of a checkpoint is ever changed in place.

    Raises:
        DamagedCheckpoint: an index is damaged.
        NotWritten: the folder cannot be written; no partial checkpoint is left.
    """
    found = [read_index(part, round_) for part in parts]
    index = _merge(found)
    files = [file for file in dict.fromkeys(_texts(index)) if file in index["sha256"]]
    with replacing_folder(round_folder(folder, round_)) as temporary:
        for part, own in zip(parts, found, strict=True):
            for file in own["sha256"].keys() & {*files}:
                _link(round_folder(part, round_) / file, temporary / file)
        write_index(temporary, {**index, "sha256": {file: index["sha256"][file] for file in files}})


def _merge(indexes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    groups = {name: last["group"] for index in indexes for name, last in index["clients"].items()}
    order = Order.of(groups)
    merged: dict[str, Any] = {}
    for key, first in max(indexes, key=len).items():
        values = [index[key] for index in indexes if key in index]
        if key == "statistics":
            merged[key] = None  # they come after the last round
        elif isinstance(first, dict) and key != "progress":
            names = order.groups if key in _OF_GROUPS else order.clients
            merged[key] = merge(values, order.by_group if key == "personal" else names)
        elif key == "sums":
            sums = [one for value in values for one in value]
            merged[key] = sorted(sums, key=lambda one: order.of_sum(one["round"], one["group"]))
        elif key != "progress":  # each modality continues from its own checkpoint
            merged[key] = max(values) if key == "releases" else first
    return merged


def _texts(value: Any) -> Iterator[str]:
    """Yield the values in `value` that are texts; those of an index are names of files and others."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except (OSError, NotImplementedError):
        shutil.copyfile(source, target)
