"""What a node owns: its shards, decoded once while they fit in memory, and what it says of itself."""

from pathlib import Path

import psutil
from flwr.app import Context

from flames_cli.errors import FlamesError
from flames_cli.fed.messages import Profile
from flames_cli.learn.data import ShardDataset
from flames_cli.store.h5 import read_shard_sets, read_shard_summary

CACHE_SHARE = 0.25
"""Of the machine's memory that decoded shards may take between rounds."""

SHARD_SEPARATOR = "\n"
"""Between the paths of a node that pools several shards: a path may well hold a colon."""

Shards = tuple[Path, ...]


class DatasetCache:
    """Decoded shards kept between rounds while they fit, so that a round does not decode them again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Shards, str], ShardDataset] = {}
        self._room = int(psutil.virtual_memory().total * CACHE_SHARE)

    def load(self, shards: Shards, set_name: str) -> ShardDataset:
        """The cases of `set_name` of all `shards`."""
        key = (shards, set_name)
        if key in self._kept:
            return self._kept[key]
        dataset = ShardDataset([cases for shard in shards for cases in read_shard_sets(shard, set_name)])
        if dataset.n_bytes <= self._room:
            self._room -= dataset.n_bytes
            self._kept[key] = dataset
        return dataset


def node_shards(context: Context) -> Shards:
    """The files that this node owns.

    Raises:
        FlamesError: its configuration names none.
    """
    listed = str(context.node_config.get("shard", ""))
    if not listed:
        raise FlamesError(
            "the node's configuration names no shard, expected --node-config 'shard=\"FILE.h5\"'"
        )
    return tuple(Path(path) for path in listed.split(SHARD_SEPARATOR))


def read_profile(context: Context) -> Profile:
    """What this node says of itself, from its shards.

    Raises:
        FlamesError: shards of several modalities, sizes or numbers of channels cannot be one client.
    """
    summaries = [read_shard_summary(path) for path in node_shards(context)]
    for name in ("modality", "size", "channels"):
        values = sorted({str(getattr(summary, name)) for summary in summaries})
        if len(values) > 1:
            raise FlamesError(f"one client cannot hold shards of {name} {' and '.join(values)}")
    return Profile(
        client=str(context.node_config.get("client", summaries[0].name)),
        modality=summaries[0].modality,
        organ=", ".join(dict.fromkeys(summary.organ for summary in summaries)),
        n_train=sum(summary.images["train"] for summary in summaries),
        n_val=sum(summary.images["val"] for summary in summaries),
        size=summaries[0].size,
        channels=summaries[0].channels,
    )
