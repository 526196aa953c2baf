"""A cache of a node's decoded shards."""

from typing import TYPE_CHECKING

import psutil

from flames_cli.fed.node import NodeSettings, Shards
from flames_cli.store.h5 import read_shard_sets

if TYPE_CHECKING:
    from flames_cli.learn.data import ShardDataset


class DatasetCache:
    """Decoded shards that stay in memory between rounds, as long as they fit."""

    def __init__(self) -> None:
        self._datasets: dict[tuple[Shards, str], ShardDataset] = {}
        self._bytes = 0

    def load(self, settings: NodeSettings, set_name: str) -> "ShardDataset":
        """Return the cases of the set `set_name` from all shards of the node."""
        # Imported here: torch takes seconds to load, and a node that only sends its profile does not need it.
        from flames_cli.learn.data import ShardDataset

        key = (settings.shards, set_name)
        if key in self._datasets:
            return self._datasets[key]
        dataset = ShardDataset(
            [cases for shard in settings.shards for cases in read_shard_sets(shard, set_name)]
        )
        if self._bytes + dataset.n_bytes <= psutil.virtual_memory().total * settings.cache_share:
            self._bytes += dataset.n_bytes
            self._datasets[key] = dataset
        return dataset
