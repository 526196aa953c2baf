from pathlib import Path

import numpy as np
import pytest

from flames_cli.config import PartitionConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.stages.evaluate.models_under_test import (
    ALL_MODELS,
    find_models_under_test,
    list_held_out,
    read_held_out,
)
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.server_models import list_server_models
from flames_cli.store.cases import SetInfo
from flames_cli.store.partition import ClientEntry, Partition, ServerEntry, read_partition
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.datasets import write_noise

MEMBERS = {
    "client_train": [("a", "a", 2), ("b", "b", 2), ("c", "c", 2)],
    "client_test": [("d", "d", 1)],
    "server_test": [("e", "e", 2)],
}


def test_a_test_set_names_the_collection_that_shares_its_patients(tmp_path):
    for modality in ("CT", "MRI"):
        info = SetInfo(f"ward-{modality.lower()}", modality, "liver", 32, 255, collection="ward")
        write_noise(tmp_path / "preprocessed" / f"{info.dataset}.h5", MEMBERS, info)
    write_noise(tmp_path / "preprocessed" / "kits.h5", MEMBERS, SetInfo("kits", "CT", "kidney", 32, 255))
    partition(PartitionConfig(workspace=tmp_path, different_people=True))
    made = read_partition(partition_file(tmp_path))
    clients = {
        one.entry.dataset: read_held_out(one).collections
        for one in list_held_out(partition_folder(tmp_path), made, "client_test")
    }
    assert clients == {"kits": {}, "ward-ct": {"ward-ct": "ward"}, "ward-mri": {"ward-mri": "ward"}}
    by_modality = {
        one.entry.modality: read_held_out(one).collections
        for one in list_held_out(partition_folder(tmp_path), made, "server_test")
    }
    assert by_modality == {"CT": {"ward-ct": "ward"}, "MRI": {"ward-mri": "ward"}}


def client(name: str, modality: str, organ: str) -> ClientEntry:
    images = {"train": 5, "val": 1, "test": 1}
    return ClientEntry(name, name, modality, organ, f"{name}.h5", images, {own: ["p"] for own in images})


def server(modality: str, sites: dict[str, str] | None = None, **organs: str) -> ServerEntry:
    names = {name.replace("_at_", "@"): organ for name, organ in organs.items()}
    images = dict.fromkeys(names, 2)
    patients = {name: ["q"] for name in names}
    return ServerEntry(modality, f"{modality}.h5", names, images, patients, sites=sites or {})


PARTITION = Partition(
    seed=0,
    size=16,
    clients=[client("brats", "MRI", "brain"), client("knees", "MRI", "knee"), client("lits", "CT", "liver")],
    server=[
        server("MRI", brats="brain", breasts="breast"),
        server("CT", {"lits@C6": "C6"}, lits="liver", lits_at_C6="liver"),
        server("US", busi="breast"),
    ],
)
"""Breasts in MRI are an organ that no client has, and US is a modality that no client has."""


def scores_of(strategy: str | Algorithm, on: tuple[str, ...] = (), model: str = "") -> list[tuple[str, ...]]:
    """Return (model, modality of the images, what is unseen, mark of its weights) of each test."""
    algorithm = get_algorithm(strategy) if isinstance(strategy, str) else strategy
    wanted = model or (ALL_MODELS if on else "")
    groups = {algorithm.model_group_of(one.name, one.modality) for one in PARTITION.clients}
    state = State(1, {group: {"w": np.array(group)} for group in groups})
    return [
        (one.label, one.modality, one.unseen, str(one.weights["w"]))
        for held_out in list_held_out(Path(), PARTITION, "server_test", on)
        for one in find_models_under_test(held_out, PARTITION, algorithm, state, wanted)
    ]


def test_unseen_organs_and_sites_are_apart_from_other_patients():
    assert scores_of("flames") == [
        ("MRI", "MRI", "", "MRI"),
        ("MRI", "MRI", "unseen organ", "MRI"),
        ("CT", "CT", "", "CT"),
        ("CT", "CT", "C6", "CT"),
    ]


def test_a_model_of_all_clients_is_also_tested_on_modalities_without_a_client():
    assert scores_of("fedavg")[-1] == ("US", "US", "unseen modality", "all")
    assert [one[:3] for one in scores_of("fedavg")[:-1]] == [one[:3] for one in scores_of("flames")]


@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality", "centralised"])
def test_models_of_one_modality_are_tested_on_another_when_asked(strategy):
    assert scores_of(strategy, ("CT",), "MRI") == [("MRI", "CT", "unseen modality", "MRI")]
    assert scores_of(strategy, ("US",)) == [
        ("MRI", "US", "unseen modality", "MRI"),
        ("CT", "US", "unseen modality", "CT"),
    ]
    assert scores_of(strategy, ("CT",)) == [
        ("CT", "CT", "", "CT"),
        ("CT", "CT", "C6", "CT"),
        ("MRI", "CT", "unseen modality", "MRI"),
    ]


def test_the_model_of_all_clients_has_seen_every_modality_of_theirs():
    assert scores_of("fedavg", ("CT",), "MRI") == [("MRI", "CT", "", "all"), ("MRI", "CT", "C6", "all")]
    assert scores_of("fedavg", ("US",), "MRI") == [("MRI", "US", "unseen modality", "all")]
    assert scores_of("fedavg", ("CT",)) == [("CT", "CT", "", "all"), ("CT", "CT", "C6", "all")]


def test_models_of_single_clients_are_chosen_by_modality_or_by_label():
    both = [(f"MRI by {name}", "CT", "unseen modality", name) for name in ("brats", "knees")]
    assert scores_of("local", ("CT",), "MRI") == both
    assert scores_of("local", ("CT",), "MRI by knees") == both[1:]
    state = State(1, {"brats": {}, "lits": {}})
    listed = list_server_models(PARTITION.clients, get_algorithm("local"), state)
    assert [one.label for one in listed] == ["MRI by brats", "CT by lits"]


def test_a_plug_ins_model_of_several_modalities_is_tested_on_each_once_and_has_seen_them():
    pairs = Algorithm(
        local_update="plain",
        groups=lambda client, modality: "second" if client == "knees" else "first",
        blend="mean",
    )
    assert scores_of(pairs) == [
        ("MRI by first", "MRI", "", "first"),
        ("MRI by second", "MRI", "", "second"),
        ("MRI by first", "MRI", "unseen organ", "first"),
        ("MRI by second", "MRI", "unseen organ", "second"),
        ("CT by first", "CT", "", "first"),
        ("CT by first", "CT", "C6", "first"),
    ]
    assert scores_of(pairs, ("CT",))[2:] == [("MRI by second", "CT", "unseen modality", "second")]
    assert scores_of(pairs, ("US",)) == [
        ("MRI by first", "US", "unseen modality", "first"),
        ("MRI by second", "US", "unseen modality", "second"),
    ]
