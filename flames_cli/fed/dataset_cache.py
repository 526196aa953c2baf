"""A cache of a node's decoded shards."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import psutil

from flames_cli.fed.node import NodeSettings, Shards
from flames_cli.store.h5 import read_shard_sets

if TYPE_CHECKING:
    from flames_cli.learn.data import ShardDataset


@dataclass(frozen=True, slots=True)
class _Kept:
    """A decoded set, and the state of the shard files from which it was read."""

    dataset: "ShardDataset"
    files: tuple[tuple[int, ...], ...]


class DatasetCache:
    """Decoded shards that stay in memory between rounds, as long as they fit and their files are the same."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Shards, str], _Kept] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type["DatasetCache"], tuple[()]]:
        """Let ray, which sends the client's functions to its processes, send an empty cache along."""
        return DatasetCache, ()

    def load(self, settings: NodeSettings, set_name: str) -> "ShardDataset":
        """Return the cases of the set `set_name` from all shards of the node; threads take turns."""
        with self._lock:
            return self._load(settings, set_name)

    def _load(self, settings: NodeSettings, set_name: str) -> "ShardDataset":
        # Imported here: torch takes seconds to load, and a node that only sends its profile does not need it.
        from flames_cli.learn.data import ShardDataset

        key, files = (settings.shards, set_name), tuple(map(_state, settings.shards))
        kept = self._kept.get(key)
        if kept is not None and kept.files == files:
            return kept.dataset
        self._kept.pop(key, None)
        dataset = ShardDataset(
            [cases for shard in settings.shards for cases in read_shard_sets(shard, set_name)]
        )
        n_bytes = dataset.n_bytes + sum(other.dataset.n_bytes for other in self._kept.values())
        if n_bytes <= psutil.virtual_memory().total * settings.cache_share:
            self._kept[key] = _Kept(dataset, files)
        return dataset


def _state(path: Path) -> tuple[int, ...]:
    """Return numbers that change when the file is written again, as by the owner of a node that runs."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
