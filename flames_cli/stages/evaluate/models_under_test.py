"""Models under test: each model with the test set on which it is scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.core.patient_units import NOUNS
from flames_cli.learn.data import ShardDataset
from flames_cli.stages.evaluate.scoring import ModelUnderTest
from flames_cli.store.cases import CaseSet
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import Partition, checked_shard


@dataclass(frozen=True, slots=True)
class HeldOutCases:
    """Cases that no training has seen."""

    data: ShardDataset
    collections: dict[str, str]
    """Name that a data set shares with others that have the same patients; data sets without such a name are
    left out."""


HeldOutSets = dict[tuple[str, str], HeldOutCases]
"""Held-out cases by shard and name: the name of an unseen site's test set, else empty."""


def load_held_out(folder: Path, partition: Partition, split: str) -> HeldOutSets:
    """Read the test sets of a split, decoded once however many models are scored on them; `folder` is that of
    the partition.

    A client has one test set. The server has one of the clients' own sites, and one for each unseen site.
    """
    tests: HeldOutSets = {}
    if split == "client_test":
        for client in partition.clients:
            path = checked_shard(folder, client)
            tests[client.shard, ""] = _join(read_shard_sets(path, "test"))
        return tests
    for server in partition.server:
        sets = read_shard_sets(checked_shard(folder, server), "test")
        named = dict(zip(sorted(server.images), sets, strict=True))
        seen = [cases for name, cases in named.items() if name not in server.sites]
        tests[server.shard, ""] = _join(seen)
        tests |= {(server.shard, name): _join([named[name]]) for name in server.sites}
    return tests


def _join(sets: Sequence[CaseSet]) -> HeldOutCases:
    infos = [cases.info for cases in sets]
    return HeldOutCases(
        ShardDataset(sets), {info.dataset: info.collection for info in infos if info.collection}
    )


def find_models_under_test(
    tests: HeldOutSets, partition: Partition, algorithm: Algorithm, state: State, split: str
) -> list[ModelUnderTest]:
    """Return every client with its own test set, or every server model with the unseen patients of a
    modality.

    A test set without patients is left out.
    """
    find = _find_clients if split == "client_test" else _find_server_models
    return [model for model in find(tests, partition, algorithm, state) if len(model.data)]


def _find_clients(
    tests: HeldOutSets, partition: Partition, algorithm: Algorithm, state: State
) -> Iterator[ModelUnderTest]:
    for entry in partition.clients:
        group = algorithm.model_group_of(entry.name, entry.modality)
        weights, test = state.final_model_for(entry.name, group, entry.modality), tests[entry.shard, ""]
        yield ModelUnderTest(
            label=entry.name,
            modality=entry.modality,
            split="client_test",
            data=test.data,
            weights=weights,
            collections=test.collections,
        )


def _find_server_models(
    tests: HeldOutSets, partition: Partition, algorithm: Algorithm, state: State
) -> Iterator[ModelUnderTest]:
    for server in partition.server:
        modality = server.modality
        members = [client for client in partition.clients if client.modality == modality]
        groups = dict.fromkeys(algorithm.model_group_of(client.name, client.modality) for client in members)
        if not members and "all" in state.server:  # one model for all, also for a modality without a client
            groups = {"all": None}
        for group in (name for name in groups if name in state.server):
            label = modality if group in ("all", modality) else f"{modality} by {group}"
            weights = state.final_server_model(group, modality)
            for name in ("", *server.sites):
                test, site = tests[server.shard, name], server.sites.get(name, "")
                yield ModelUnderTest(
                    label=label,
                    modality=modality,
                    split="server_test",
                    data=test.data,
                    weights=weights,
                    unseen=site,
                    collections=test.collections,
                )


def find_counterpart(counterparts: Sequence[ModelUnderTest], model: ModelUnderTest) -> ModelUnderTest | None:
    """Return the other run's model with the same test set: with the same label, or its only model of that
    modality."""
    counterparts = [counterpart for counterpart in counterparts if counterpart.data is model.data]
    for counterpart in counterparts:
        if counterpart.label == model.label:
            return counterpart
    of_modality = [counterpart for counterpart in counterparts if counterpart.modality == model.modality]
    return of_modality[0] if model.split == "server_test" and len(of_modality) == 1 else None


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
