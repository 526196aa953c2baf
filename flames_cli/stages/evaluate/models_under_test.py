"""Models under test: each test set that no training has seen, with the models that are scored on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.core.patient_units import NOUNS
from flames_cli.learn.data import ShardDataset
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry, checked_shard

SPLITS = ("client_test", "server_test")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A test set: a client's, the server's of one modality, or that of one unseen site."""

    folder: Path
    """Folder of the partition."""
    entry: ClientEntry | ServerEntry
    names: tuple[str, ...]
    """Names of its sets in the shard."""
    unseen: str = ""
    """The unseen site of all cases, which no client has trained on; else empty."""

    @property
    def split(self) -> str:
        """client_test or server_test."""
        return "client_test" if isinstance(self.entry, ClientEntry) else "server_test"


@dataclass(frozen=True, slots=True)
class HeldOutCases:
    """Cases of a test set."""

    data: ShardDataset
    collections: Mapping[str, str] = field(default_factory=dict)
    """Name that a data set shares with others that have the same patients, by data set; data sets without
    such a name are left out."""


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """One model with one test set: a client's with its own, or a server model with that of its modality."""

    label: str
    modality: str
    split: str
    weights: Weights
    unseen: str = ""


def list_held_out(folder: Path, partition: Partition, split: str) -> list[HeldOut]:
    """Return the test sets of a split that have cases; `folder` is that of the partition.

    A client has one test set. The server has one of the clients' own sites for each modality, and one for
    each unseen site.
    """
    if split == "client_test":
        clients = (client for client in partition.clients if client.images["test"])
        return [HeldOut(folder, client, ("test",)) for client in clients]
    found = []
    for server in partition.server:
        names = sorted(name for name, images in server.images.items() if images)
        if seen := [name for name in names if name not in server.sites]:
            found.append(HeldOut(folder, server, tuple(f"test/{name}" for name in seen)))
        unseen = (name for name in names if name in server.sites)
        found += [HeldOut(folder, server, (f"test/{name}",), server.sites[name]) for name in unseen]
    return found


def read_held_out(held_out: HeldOut) -> HeldOutCases:
    """Return the cases of a test set.

    Raises:
        MissingArtifact: its shard is missing.
        FlamesError: the shard has changed since `flames partition` wrote it, or is damaged.
    """
    path = checked_shard(held_out.folder, held_out.entry)
    sets = [cases for name in held_out.names for cases in read_shard_sets(path, name, complete=True)]
    infos = [cases.info for cases in sets]
    return HeldOutCases(
        ShardDataset(sets), {info.dataset: info.collection for info in infos if info.collection}
    )


def find_models_under_test(
    held_out: HeldOut, partition: Partition, algorithm: Algorithm, state: State
) -> Iterator[ModelUnderTest]:
    """Yield the client's personalised model, or every server model of the test set's modality."""
    entry, modality = held_out.entry, held_out.entry.modality
    if isinstance(entry, ClientEntry):
        group = algorithm.model_group_of(entry.name, modality)
        weights = state.final_model_for(entry.name, group, modality)
        yield ModelUnderTest(entry.name, modality, held_out.split, weights)
        return
    members = [client for client in partition.clients if client.modality == modality]
    groups = dict.fromkeys(algorithm.model_group_of(client.name, client.modality) for client in members)
    if not members and "all" in state.server:  # one model for all, also for a modality without a client
        groups = {"all": None}
    for group in (name for name in groups if name in state.server):
        label = modality if group in ("all", modality) else f"{modality} by {group}"
        weights = state.final_server_model(group, modality)
        yield ModelUnderTest(label, modality, held_out.split, weights, held_out.unseen)


def find_untested(partition: Partition, state: State) -> dict[str, str]:
    """Return the clients and modalities that are in no table, each with its reason."""
    untested = {
        client.name: f"no test {NOUNS[client.patient_unit]}"
        for client in partition.clients
        if not client.images["test"]
    }
    if "all" not in state.server:
        alone = {server.modality for server in partition.server} - set(partition.modalities)
        untested |= dict.fromkeys(sorted(alone), "no client of this modality trained a model")
    return untested
