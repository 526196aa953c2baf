"""A node's shards, decoded once while they fit in memory."""

from typing import TYPE_CHECKING

import psutil

from flames_cli.fed.node import NodeSettings, Shards
from flames_cli.store.h5 import read_shard_sets

if TYPE_CHECKING:
    from flames_cli.learn.data import ShardDataset


class DatasetCache:
    """Decoded shards kept between rounds while they fit, so that a round does not decode them again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Shards, str], ShardDataset] = {}
        self._bytes = 0

    def load(self, settings: NodeSettings, set_name: str) -> "ShardDataset":
        """The cases of `set_name` of all the node's shards."""
        # Here, for a node that is only asked who it is: torch takes seconds to load.
        from flames_cli.learn.data import ShardDataset

        key = (settings.shards, set_name)
        if key in self._kept:
            return self._kept[key]
        dataset = ShardDataset(
            [cases for shard in settings.shards for cases in read_shard_sets(shard, set_name)]
        )
        if self._bytes + dataset.n_bytes <= psutil.virtual_memory().total * settings.cache_share:
            self._bytes += dataset.n_bytes
            self._kept[key] = dataset
        return dataset
