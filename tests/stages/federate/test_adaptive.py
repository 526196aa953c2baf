"""flames-adaptive in complete federations: each client chooses its model, and uses what it has validated."""

import json

import numpy as np
import pytest
import torch

from flames_cli.config import PartitionConfig
from flames_cli.core.federated.choice import CANDIDATES, FLAMES
from flames_cli.core.federated.wire import as_received
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.predict import validate
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import load_state
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import read_partition
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.stages import SMALL_MODEL, evaluate_run, federate_config

pytestmark = pytest.mark.federated

SDNET = {"model": "sdnet", "model_options": SMALL_MODEL, "lr": 1e-3}

CPU = torch.device("cpu")


def run(root, **options):
    """Return (the result, its last state) of a federation."""
    result = federate(federate_config(root, **{"strategy": "flames-adaptive", **options}))
    return result, load_state(result.folder / "checkpoints")


def without_validation(root):
    """Partition a workspace again, with all training patients in the training sets."""
    partition(PartitionConfig(workspace=root, split={"brats": 2}, val_fraction=0.0, overwrite=True))
    return root


def test_without_validation_patients_every_client_has_the_model_of_flames_bit_for_bit(tiny):
    root = without_validation(tiny())
    ours, state = run(root, rounds=3)
    _, flames = run(root, rounds=3, strategy="flames")
    assert_same_state_of_models(state, flames)
    picks = [client.get("pick") for record in ours.records for client in record["clients"]]
    assert sorted(set(picks), key=str) == [None, FLAMES]


def assert_same_state_of_models(ours, theirs):
    for group, client in (("MRI", "brats-1"), ("MRI", "brats-2"), ("US", "busi")):
        assert_same(ours.final_model_for(client, group), theirs.final_model_for(client, group))
        assert_same(ours.final_server_model(group, group), theirs.final_server_model(group, group))


@pytest.mark.parametrize("wire", ["fp32", "fp16"])
def test_a_client_uses_exactly_the_model_that_it_has_validated(wire, tiny):
    root = tiny()
    result, state = run(root, wire_dtype=wire, model_options=SMALL_MODEL)
    found = {
        c["client"]: c for c in json.loads((result.folder / "final-models.json").read_bytes())["clients"]
    }
    for entry in read_partition(partition_file(root)).clients:
        model = build_model("unet", seed=0, **SMALL_MODEL)
        final = state.final_model_for(entry.name, entry.modality)
        load_weights(model, final)
        data = ShardDataset(read_shard_sets(partition_folder(root) / entry.shard, "val"))
        dice = validate(model, data, 8, CPU, "fp32", dice_focal_loss).dice
        # A client without a choice validates its group's model as received, and the server has it in full.
        near = wire == "fp16" and "pick" not in found[entry.name]
        assert dice == pytest.approx(found[entry.name]["val_dice"], abs=0.005 if near else 0, rel=0)
    assert "pick" not in found["busi"]  # the only client of its modality
    chosen = found["brats-1"]["pick"]
    assert set(found["brats-1"]["candidates"]) == set(CANDIDATES)
    offer = state.candidates("MRI").offer("brats-1")
    final = state.final_model_for("brats-1", "MRI")
    weights = {name: array for name, array in offer.candidate(chosen).items() if "running" not in name}
    for name, array in weights.items():
        np.testing.assert_allclose(final[name], array, atol=1e-2 if wire == "fp16" else 0)
    carried = as_received(offer.own, wire)
    is_carried = [np.array_equal(array, carried[name]) for name, array in offer.own.items()]
    assert all(is_carried) == (wire == "fp32")  # the server has the client's weights in full precision


def test_a_run_that_stops_continues_with_the_same_choices(tiny):
    whole, expected = run(tiny(), rounds=4)
    root = tiny()
    run(root, rounds=2)
    resumed, state = run(root, rounds=4)
    assert resumed.resumed_from == 2
    assert_same_state(state, expected)
    assert without_timings(resumed.records) == without_timings(whole.records)
    assert [client.get("pick") is not None for client in whole.records[1]["clients"]] == [True, True, False]


def test_a_client_alone_in_its_modality_trains_as_if_it_were_local(tiny):
    root = tiny()
    _, state = run(root)
    _, local = run(root, strategy="local")
    assert_same(state.final_model_for("busi", "US"), local.final_model_for("busi", "busi"))


@pytest.mark.parametrize("options", [{}, {"share": "content", **SDNET}], ids=["all", "content"])
def test_the_chosen_models_are_evaluated(options, tiny):
    root = tiny()
    result, _ = run(root, **options)
    assert {client.get("pick") is None for client in result.records[1]["clients"]} == {True, False}
    assert sorted({row.label for row in evaluate_run(root, "flames-adaptive").clients}) == [
        "brats-1",
        "brats-2",
        "busi",
    ]


def test_two_models_travel_to_a_client_that_chooses(tiny):
    result, _ = run(tiny(), rounds=2)
    first, second = (record["bytes_down"] for record in result.records)
    assert second * 3 == first * 5  # two brain clients choose, busi is the only one of its modality
