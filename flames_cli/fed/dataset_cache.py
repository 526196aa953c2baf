"""A node's shards, decoded once while they fit in memory."""

from typing import TYPE_CHECKING

import psutil

from flames_cli.fed.node import Shards
from flames_cli.store.h5 import read_shard_sets

if TYPE_CHECKING:
    from flames_cli.learn.data import ShardDataset

CACHE_SHARE = 0.25
"""Of the machine's memory that decoded shards may take between rounds."""


class DatasetCache:
    """Decoded shards kept between rounds while they fit, so that a round does not decode them again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Shards, str], ShardDataset] = {}
        self._room = int(psutil.virtual_memory().total * CACHE_SHARE)

    def load(self, shards: Shards, set_name: str) -> "ShardDataset":
        """The cases of `set_name` of all `shards`."""
        # Here, for a node that is only asked who it is: torch takes seconds to load.
        from flames_cli.learn.data import ShardDataset

        key = (shards, set_name)
        if key in self._kept:
            return self._kept[key]
        dataset = ShardDataset([cases for shard in shards for cases in read_shard_sets(shard, set_name)])
        if dataset.n_bytes <= self._room:
            self._room -= dataset.n_bytes
            self._kept[key] = dataset
        return dataset
