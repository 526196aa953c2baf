"""Clients of a run, by all that this machine knows of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.core.imaging.preparation import NOT_KNOWN, Preparation
from flames_cli.errors import FlamesError
from flames_cli.store.clients import JoinedClient
from flames_cli.store.h5 import read_shard_summary
from flames_cli.store.partition import ClientEntry, NamedPartition, checked_shard


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A client of a run, and how its training images were prepared."""

    name: str
    modality: str
    organ: str = ""
    """Empty: not known."""
    patients: int = 0
    """Number of training patients; 0: not known."""
    images: int = 0
    """Number of training images; 0: not known."""
    preparation: Preparation = NOT_KNOWN
    shard: Path | None = None
    """Shard with its training images; None if it is not on this machine."""


def clients_of_partition(partition: NamedPartition) -> tuple[ClientFacts, ...]:
    """Return the clients of a partition, with the properties of their shards that are still there."""
    return tuple(_client_of(partition, entry) for entry in partition.content.clients)


def _client_of(partition: NamedPartition, entry: ClientEntry) -> ClientFacts:
    try:
        shard: Path | None = checked_shard(partition.folder, entry)
        preparation = read_shard_summary(shard).preparation if shard else NOT_KNOWN
    except FlamesError:
        shard, preparation = None, NOT_KNOWN
    return ClientFacts(
        name=entry.name,
        modality=entry.modality,
        organ=entry.organ,
        patients=len(entry.patients["train"]),
        images=entry.images["train"],
        preparation=preparation,
        shard=shard,
    )


def clients_that_joined(joined: Iterable[JoinedClient]) -> tuple[ClientFacts, ...]:
    """Return the clients that clients.json lists; it has no numbers of patients."""
    return tuple(
        ClientFacts(one.client, one.modality, one.organ, images=one.n_train or 0, preparation=one.preparation)
        for one in joined
    )


def clients_of_records(records: Sequence[Mapping[str, Any]]) -> tuple[ClientFacts, ...]:
    """Return the clients that the lines of rounds.jsonl name, each with its last number of images."""
    found: dict[str, ClientFacts] = {}
    for client in _entries(records):
        name, modality = str(client["client"]), str(client.get("modality", ""))
        images = client.get("n_examples")
        known = found[name].images if name in found else 0
        found[name] = ClientFacts(name, modality, images=images if isinstance(images, int) else known)
    return tuple(found[name] for name in sorted(found))


def _entries(records: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for record in records:
        clients = record.get("clients")
        for client in clients if isinstance(clients, list) else ():
            if isinstance(client, dict) and "client" in client:
                yield client


def members_of(
    clients: Iterable[ClientFacts], group: str, algorithm: Algorithm, state: State
) -> list[ClientFacts]:
    """Return the clients that trained the model of a group: not those without any accepted report."""
    return [
        client
        for client in clients
        if algorithm.model_group_of(client.name, client.modality) == group
        and (client.name not in state.clients or state.clients[client.name].round > 0)
    ]
