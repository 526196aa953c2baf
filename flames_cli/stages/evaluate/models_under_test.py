"""Models under test: each test set that no training has seen, with the models that are scored on it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flames_cli.arrays import Weights
from flames_cli.core.federated.algorithm import ALL, Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.core.patient_units import NOUNS
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.server_models import list_server_models
from flames_cli.store.evaluations import UNSEEN_MODALITY, UNSEEN_ORGAN, name_person
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry, checked_shard

SPLITS = ("client_test", "server_test")
ALL_MODELS = "*"
"""Name in place of a server model: all of them, whatever the modality of their clients."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A test set: a client's, the server's of one modality, or that of one unseen site, organ or modality."""

    folder: Path
    """Folder of the partition."""
    entry: ClientEntry | ServerEntry
    names: tuple[str, ...]
    """Names of its sets in the shard."""
    unseen: str = ""
    """The unseen site of all cases, which no client has trained on; UNSEEN_ORGAN if no client of the modality
    has their organ; UNSEEN_MODALITY if no client of the models has their modality; else empty."""
    is_foreign: bool = False
    """True if it is for models whose clients do not have its modality."""

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

    def person(self, index: int) -> str:
        """Return the patient of case `index`, by a name that is unique over all data sets."""
        dataset = self.data.dataset(index)
        return name_person(self.collections.get(dataset, ""), dataset, self.data.case(index).split_unit)


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """One model with one test set: a client's with its own, or a server model with one of the server's."""

    label: str
    modality: str
    """Modality of the images; for most models also that of the clients."""
    split: str
    weights: Weights
    unseen: str = ""
    clients: tuple[ClientEntry, ...] = ()
    """Clients whose validation patients may choose its masks: the client, or those of the server model."""


def list_held_out(folder: Path, partition: Partition, split: str, on: Collection[str] = ()) -> list[HeldOut]:
    """Return the test sets of a split that have cases; `folder` is that of the partition.

    A client has one test set. The server has one of the clients' own sites and organs for each modality, one
    for unseen organs, and one for each unseen site; of the modalities `on`, it also has one with all cases
    for the models of other modalities.

    Args:
        folder: folder of the partition.
        partition: the partition.
        split: client_test or server_test.
        on: modalities to which the server's test sets are limited; empty: all.
    """
    if split == "client_test":
        clients = (client for client in partition.clients if client.images["test"])
        return [HeldOut(folder, client, ("test",)) for client in clients]
    found = []
    for server in partition.server:
        if server.modality in (on or server.modality):
            found += _list_of_server(folder, partition, server, apart=bool(on))
    return found


def _list_of_server(folder: Path, partition: Partition, server: ServerEntry, apart: bool) -> list[HeldOut]:
    """Return the server's test sets of one modality; with `apart`, also for models of other modalities."""
    organs = {client.organ for client in partition.clients if client.modality == server.modality}
    every = sorted(name for name, images in server.images.items() if images)
    sites = [(server.sites[name], [name]) for name in every if name in server.sites]
    others = [name for name in every if name not in server.sites]
    found = []
    if organs:
        seen = [name for name in others if server.organs[name] in organs]
        new = [name for name in others if server.organs[name] not in organs]
        found += [(unseen, names, False) for unseen, names in [("", seen), (UNSEEN_ORGAN, new), *sites]]
    if apart:
        found.append((UNSEEN_MODALITY, every, True))
    elif not organs:
        found += [(unseen, names, True) for unseen, names in [(UNSEEN_MODALITY, others), *sites]]
    return [
        HeldOut(folder, server, tuple(f"test/{name}" for name in names), unseen, is_foreign)
        for unseen, names, is_foreign in found
        if names
    ]


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
    held_out: HeldOut, partition: Partition, algorithm: Algorithm, state: State, wanted: str = ""
) -> Iterator[ModelUnderTest]:
    """Yield the client's personalised model, or every server model that is tested on a test set.

    These are the models of its modality; for a test set that is foreign, those whose clients have other
    modalities.

    Args:
        held_out: the test set.
        partition: the partition of the run.
        algorithm: the algorithm of the run.
        state: the models of the run.
        wanted: server models to test: ALL_MODELS, those of one modality, or that of one label; empty: only
            models that are meant for the modality, which are those of its clients or of all clients.
    """
    entry, modality = held_out.entry, held_out.entry.modality
    if isinstance(entry, ClientEntry):
        group = state.group_of(entry.name, modality, algorithm)
        if group not in state.server:  # the client took no part, and nobody else trained such a model
            return
        weights = state.final_model_for(entry.name, group, modality)
        yield ModelUnderTest(entry.name, modality, held_out.split, weights, clients=(entry,))
        return
    by_name = wanted not in ("", ALL_MODELS)
    listed = list_server_models(partition.clients, algorithm, state)
    of_group: dict[str, list[str]] = {}
    for one in listed:
        of_group.setdefault(one.group, []).append(one.modality)
    for one in listed:
        known = of_group[one.group]
        is_foreign = modality not in known
        label = statistics = one.modality
        if by_name:
            label, is_wanted = one.label, wanted in (one.label, one.modality)
        elif one.group == ALL or len(known) > 1:
            # It has the statistics of the images' modality, so it is tested once.
            statistics = modality
            label = modality if one.group == ALL else one.label
            is_wanted = one.modality == (known[0] if is_foreign else modality)
            is_wanted = is_wanted and (one.group == ALL or bool(wanted) or not is_foreign)
        else:
            label, is_wanted = one.label, bool(wanted) or not is_foreign
        if is_wanted and is_foreign == held_out.is_foreign:
            weights = state.final_server_model(one.group, statistics)
            own = tuple(
                client
                for client in partition.clients
                if client.modality == statistics
                and algorithm.model_group_of(client.name, client.modality) == one.group
            )
            yield ModelUnderTest(label, modality, held_out.split, weights, held_out.unseen, own)


def find_untested(partition: Partition, state: State) -> dict[str, str]:
    """Return the clients and modalities that are in no table, each with its reason."""
    untested = {
        client.name: "it took no part in the run"
        for client in partition.clients
        if client.name not in state.clients
    }
    untested |= {
        client.name: f"no test {NOUNS[client.patient_unit]}"
        for client in partition.clients
        if not client.images["test"]
    }
    if ALL not in state.server:
        alone = {server.modality for server in partition.server} - set(partition.modalities)
        reason = "no client of this modality trained a model; --on tests those of other modalities on it"
        untested |= dict.fromkeys(sorted(alone), reason)
    return untested
