"""Normalisation layers: the same model with other layers, and which of them have statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.learn.models import MODELS, build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.models.norms import MOST_GROUPS, FrozenBatchNorm2d, has_statistics, set_norm

SMALL = {name: {} if name == "densenet-unet" else {"base_channels": 4, "depth": 2} for name in MODELS}


def build(name, norm):
    return build_model(name, seed=3, norm=norm, **SMALL[name])


def step(model):
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 32, 32)).astype(np.float32))
    model.train()
    model(images).mean().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return images


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_group_norm_gives_the_same_in_training_and_in_evaluation(name):
    model = build(name, "group")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    images = step(model)
    with torch.no_grad():
        torch.testing.assert_close(model.train()(images), model.eval()(images))


@pytest.mark.parametrize("name", MODELS)
def test_frozen_statistics_never_change_but_scale_and_shift_are_trained(name):
    model = build(name, "frozen")
    before = to_weights(model)
    step(model)
    after = to_weights(model)
    changed = {entry for entry in before if not np.array_equal(before[entry], after[entry])}
    assert not any(
        entry.endswith(("running_mean", "running_var", "num_batches_tracked")) for entry in changed
    )
    frozen = [
        f"{part}.weight" for part, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)
    ]
    assert set(frozen) & changed


def test_frozen_statistics_have_the_names_and_the_results_of_batch_norm_in_evaluation():
    model, frozen = build("unet", "batch"), build("unet", "frozen")
    images = step(model)
    frozen.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(frozen.train()(images), model.eval()(images))


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_all_other_weights_are_those_of_the_model_with_batch_norm(norm):
    plain, other = to_weights(build("utnet", "batch")), to_weights(build("utnet", norm))
    for name, array in other.items():
        np.testing.assert_array_equal(array, plain[name], err_msg=name)


@pytest.mark.parametrize("channels", [1, 3, 6, 8, 12, 20, 64, 100, 1024])
def test_groups_divide_the_channels_and_are_few(channels):
    model = nn.Sequential(nn.BatchNorm2d(channels))
    set_norm(model, "group")
    (layer,) = model
    assert channels % layer.num_groups == 0
    assert 1 <= layer.num_groups <= MOST_GROUPS
    assert layer.num_groups == 1 or channels // layer.num_groups >= 4


def test_entries_of_group_norm_are_entries_of_normalisation():
    entries = describe_entries(build("unet", "group"))
    assert "encoders.0.1.weight" in entries.norm
    assert not entries.variances


def test_only_batch_norm_has_statistics_that_change():
    layers = {norm: build("unet", norm).encoders[0][1] for norm in ("batch", "group", "frozen")}
    assert {norm: has_statistics(layer) for norm, layer in layers.items()} == {
        "batch": True,
        "group": False,
        "frozen": False,
    }


def test_an_unknown_norm_is_an_error():
    with pytest.raises(ValueError, match="expected batch, group or frozen"):
        build_model("unet", norm="layer")
