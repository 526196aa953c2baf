"""The images of a federation: what the partition says of them or, where nodes hold them, the options."""

from dataclasses import dataclass

from flames_cli.config import FederateConfig, PreprocessConfig
from flames_cli.fed.engines import ENGINES
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.partition import Partition, read_partition

CHANNELS = {"grey": 1, "rgb": 3}


@dataclass(frozen=True, slots=True)
class Images:
    """The size and channels that every client's images must have."""

    size: int
    channels: int
    partition: Partition | None
    """Of this machine; None: there is none, and the data lie at the nodes."""
    sha256: str | None
    """Of the partition's file."""


def find_images(config: FederateConfig) -> Images:
    """What the images are.

    Raises:
        MissingArtifact: there is no partition, which engines on one machine read.
        FlamesError: the partition cannot be read.
    """
    path = config.workspace / "partition.json"
    if ENGINES[config.engine].clients_hold_their_data:
        partition = read_partition(path) if path.is_file() else None
        size = config.size or (partition.size if partition else PreprocessConfig().size)
        channels = CHANNELS[config.channels] if config.channels else partition.channels if partition else 1
    else:
        partition = read_partition(path)
        size, channels = partition.size, partition.channels
    return Images(size, channels, partition, hash_file(path) if partition else None)
