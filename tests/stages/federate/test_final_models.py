"""The pass after the last round: final models have the statistics of their own weights, and are validated."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import place
from flames_cli.learn.models import build_model
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.stages.federate import run_files
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state, save_state
from flames_cli.store.h5 import read_shard_sets
from flames_cli.store.partition import read_partition
from flames_cli.store.workspace import partition_file, partition_folder
from tests.support.asserts import assert_same, assert_same_state
from tests.support.stages import SMALL_MODEL, federate_config

pytestmark = pytest.mark.federated


def state_of(result):
    return load_state(result.folder / "checkpoints")


def estimated(root, client, weights):
    """Return the statistics of `weights` on the training images of a client, estimated again."""
    entry = next(one for one in read_partition(partition_file(root)).clients if one.name == client)
    data = ShardDataset(read_shard_sets(partition_folder(root) / entry.shard, "train"))
    model = place(build_model("unet", seed=0, **SMALL_MODEL), torch.device("cpu"), "fp32")
    return statistics_of(estimate_statistics(model, weights, data, 8, torch.device("cpu"), "fp32"))


@pytest.mark.parametrize("strategy", ["flames", "fedavg", "fedbn", "local"])
def test_every_client_has_the_statistics_that_its_final_model_has_on_its_own_images(strategy, tiny):
    root = tiny()
    state = state_of(federate(federate_config(root, strategy=strategy, rounds=1)))
    groups = {"flames": "MRI", "fedavg": "all", "fedbn": "all", "local": "brats-1"}
    weights = state.model_for("brats-1", groups[strategy])
    assert sorted(state.statistics.clients) == ["brats-1", "brats-2", "busi"]
    assert_same(state.statistics.clients["brats-1"], estimated(root, "brats-1", weights))
    stale = statistics_of(weights)
    used = state.final_model_for("brats-1", groups[strategy])
    assert any(not np.allclose(stale[name], used[name], rtol=0.01) for name in stale)
    assert {name: used[name] for name in used.keys() - stale.keys()}.keys() == weights.keys() - stale.keys()


def test_clients_whose_images_are_pooled_use_the_statistics_of_the_pooled_images(tiny):
    state = state_of(federate(federate_config(tiny(), strategy="centralised", rounds=1)))
    used = state.final_model_for("brats-1", "MRI", "MRI")
    assert_same(used, state.final_server_model("MRI", "MRI"))
    assert any(not np.array_equal(used[name], state.server["MRI"][name]) for name in used)


def test_a_server_model_has_the_statistics_of_all_images_of_its_clients(tiny):
    root = tiny()
    state = state_of(federate(federate_config(root, rounds=1)))
    parts = [estimated(root, client, state.server["MRI"]) for client in ("brats-1", "brats-2")]
    sizes = {c.name: c.images["train"] for c in read_partition(partition_file(root)).clients}
    total = sizes["brats-1"] + sizes["brats-2"]
    for name, array in state.statistics.groups["MRI"].items():
        if name.endswith("running_mean"):
            mean = (sizes["brats-1"] * parts[0][name] + sizes["brats-2"] * parts[1][name]) / total
            np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-6)


def test_the_final_models_are_validated_and_the_file_says_so(tiny):
    result = federate(federate_config(tiny(), rounds=1))
    written = json.loads((result.folder / "final-models.json").read_text())
    assert written == result.final
    assert [client["client"] for client in written["clients"]] == ["brats-1", "brats-2", "busi"]
    assert all(0 <= client["val_dice"] <= 1 and client["statistics"] for client in written["clients"])
    assert (written["round"], written["missing"]) == (1, {})


@pytest.mark.parametrize("options", [{"precise_norm": False}, {"norm": "group"}])
def test_without_statistics_the_final_models_are_only_validated(options, tiny):
    result = federate(federate_config(tiny(), rounds=1, **options))
    state = state_of(result)
    assert state.statistics.clients == state.statistics.groups == state.statistics.modalities == {}
    assert all("val_dice" in client for client in result.final["clients"])
    assert_same(state.final_server_model("MRI", "MRI"), state.server["MRI"])


def test_a_run_that_ended_before_the_pass_makes_it_when_it_is_started_again(tiny, monkeypatch):
    root = tiny()
    whole = federate(federate_config(root, rounds=1, run="whole"))

    def pull_the_plug(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "write_json", pull_the_plug)
        with pytest.raises(KeyboardInterrupt):
            federate(federate_config(root, rounds=1, run="cut"))
    folder = root / "runs" / "cut"
    assert load_state(folder / "checkpoints").statistics is None
    assert not (folder / "final-models.json").exists()
    again = federate(federate_config(root, rounds=1, run="cut"))
    assert again.resumed_from == 1
    assert state_of(again).statistics is not None
    assert_same_state(state_of(again), state_of(whole))
    assert again.final == whole.final


def test_a_finished_run_of_an_earlier_release_gets_its_statistics(tiny):
    root = tiny()
    result = federate(federate_config(root, rounds=1))
    state = state_of(result)
    save_state(result.folder / "checkpoints", replace(state, statistics=None), keep=3)
    assert_same_state(state_of(federate(federate_config(root, rounds=1))), state)


def test_training_never_uses_the_statistics(tiny):
    root = tiny()
    whole = federate(federate_config(root, strategy="fedavg", rounds=2, run="whole"))
    federate(federate_config(root, strategy="fedavg", rounds=1, run="halved"))
    halved = federate(federate_config(root, strategy="fedavg", rounds=2, run="halved"))
    assert_same_state(state_of(halved), state_of(whole))
    first = load_state(whole.folder / "checkpoints", 1)
    assert first.statistics is None
