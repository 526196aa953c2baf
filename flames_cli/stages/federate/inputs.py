"""Inputs of a federation: the size and channels of its images, and the nodes on one machine."""

from dataclasses import dataclass
from pathlib import Path

from flames_cli.config import FederateConfig, PreprocessConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.node import SHARD_SEPARATOR, NodeConfig
from flames_cli.stages.federate.asynchronous_options import check_slow
from flames_cli.stages.federate.planning import own_training_of
from flames_cli.store.partition import ClientEntry, NamedPartition, checked_shard, open_partition
from flames_cli.store.workspace import DEFAULT_PARTITION, partition_file

CHANNELS = {"grey": 1, "rgb": 3}


@dataclass(frozen=True, slots=True)
class Images:
    """Size and channels that every client's images must have."""

    size: int
    channels: int
    partition: NamedPartition | None
    """Partition of this machine; None if there is none, because the data are at the nodes."""


def find_images(config: FederateConfig) -> Images:
    """Return the properties of the images.

    Raises:
        MissingArtifact: there is no partition, which engines on one machine read.
        FlamesError: the partition cannot be read.
    """
    if not ENGINES[config.engine].clients_hold_their_data:
        found = open_partition(config.workspace, config.partition)
        return Images(found.content.size, found.content.channels, found)
    named = config.partition != DEFAULT_PARTITION
    there = named or partition_file(config.workspace, config.partition).is_file()
    partition = open_partition(config.workspace, config.partition) if there else None
    size = config.size or (partition.content.size if partition else PreprocessConfig().size)
    of_partition = partition.content.channels if partition else 1
    return Images(size, CHANNELS[config.channels] if config.channels else of_partition, partition)


def clients_of_run(config: FederateConfig, partition: NamedPartition) -> list[ClientEntry]:
    """Return the clients of the partition that take part.

    Raises:
        FlamesError: `--clients` names one that is not there.
    """
    there = partition.content.clients
    names = [entry.name for entry in there]
    if unknown := [name for name in config.clients if name not in names]:
        raise FlamesError(
            f"--clients names '{unknown[0]}', expected clients of partition '{partition.name}': "
            f"{', '.join(names)}; correct the name"
        )
    return [entry for entry in there if not config.clients or entry.name in config.clients]


def node_configs(
    config: FederateConfig, algorithm: Algorithm, partition: NamedPartition, client_state: Path
) -> list[NodeConfig]:
    """Return one node per client; if the algorithm pools, one per model group with the shards of all its
    clients.

    Raises:
        MissingArtifact: a shard is missing.
        FlamesError: a shard has changed, `--clients` names one that is not there, or a learning rate or a
            number of epochs is for a name that is neither a modality nor a client.
    """
    members: dict[str, list[ClientEntry]] = {}
    for entry in clients_of_run(config, partition):
        name = algorithm.model_group_of(entry.name, entry.modality) if algorithm.pooled else entry.name
        members.setdefault(name, []).append(entry)
    check_slow(config, members)
    known = dict.fromkeys((*partition.content.modalities, *members))
    for option, values in own_training_of(config).items():
        if unknown := [name for name in values if name not in known]:
            raise FlamesError(
                f"--{option.replace('_', '-')} names '{unknown[0]}', expected a modality or a client, one of "
                f"{', '.join(known)}"
            )
    return [
        {
            "client": name,
            "shard": SHARD_SEPARATOR.join(
                str(checked_shard(partition.folder, entry).resolve()) for entry in entries
            ),
            "device": config.device,
            "precision": config.precision,
            "compile": config.compile,
            "client-state": str(client_state.resolve()),
        }
        for name, entries in members.items()
    ]
