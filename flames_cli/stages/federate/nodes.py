"""The nodes of a federation on one machine: a client of the partition each."""

from pathlib import Path

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError
from flames_cli.fed.node import SHARD_SEPARATOR, NodeConfig
from flames_cli.store.partition import ClientEntry, Partition, checked_shard


def node_configs(
    config: FederateConfig, algorithm: Algorithm, partition: Partition, client_state: Path
) -> list[NodeConfig]:
    """One node a client; where the algorithm pools, one a group with the shards of all its clients.

    Raises:
        MissingArtifact: a shard is gone.
        FlamesError: a shard has changed, or a learning rate is of a modality that nobody has.
    """
    unknown = [name for name in config.lr_by_modality if name not in partition.modalities]
    if unknown:
        raise FlamesError(
            f"--lr names '{unknown[0]}', expected a modality of {', '.join(partition.modalities)}"
        )
    members: dict[str, list[ClientEntry]] = {}
    for entry in partition.clients:
        name = algorithm.model_group_of(entry.name, entry.modality) if algorithm.pooled else entry.name
        members.setdefault(name, []).append(entry)
    return [
        {
            "client": name,
            "shard": SHARD_SEPARATOR.join(
                str(checked_shard(config.workspace, entry).resolve()) for entry in entries
            ),
            "device": config.device,
            "precision": config.precision,
            "client-state": str(client_state.resolve()),
        }
        for name, entries in members.items()
    ]
