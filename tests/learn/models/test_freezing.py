"""Freezing the encoder: nothing of it changes, and nothing else stays."""

import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.freezing import frozen, frozen_entries
from flames_cli.learn.models.logits_model import LogitsModel
from flames_cli.learn.models.norms import FrozenBatchNorm2d
from flames_cli.learn.normalisation import estimate_statistics
from flames_cli.learn.train import train_epochs
from flames_cli.learn.train_options import Controls, LocalRound, TrainOptions
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")
SMALL = {"base_channels": 4, "depth": 2}
MODELS = {
    "unet": (SMALL, ("encoders.",)),
    "utnet": ({**SMALL, "heads": 2}, ("encoders.", "encoder_attention.")),
    "densenet-unet": ({}, ("encoder1.", "encoder2.")),
    "sdnet": (SMALL, ("content.encoders.",)),
    "sd-utnet": ({**SMALL, "heads": 2}, ("content.encoders.", "content.encoder_attention.")),
}


def make(name="unet", **options):
    return build_model(name, seed=1, **(options or MODELS[name][0]))


@pytest.fixture
def cases():
    return ShardDataset([draw_discs(8)])


@pytest.mark.parametrize("name", MODELS)
def test_the_encoder_of_each_model_has_these_entries(name):
    model = make(name)
    found = model.encoder_entries()
    starts = MODELS[name][1]
    assert found == {entry for entry in model.state_dict() if entry.startswith(starts)}
    assert all(any(entry.startswith(start) for entry in found) for start in starts)
    assert not found & model.style_entries()


def train(model, cases, rule="plain", **options):
    made = {"local_epochs": 2, "batch_size": 3, "lr": 1e-2, "freeze": "encoder", **options}
    controls = None
    if rule == "scaffold":
        names = {name for name, _ in model.named_parameters()} - model.encoder_entries()
        zeros = {name: np.zeros_like(array) for name, array in to_weights(model).items() if name in names}
        controls = Controls({name: array + 0.1 for name, array in zeros.items()}, zeros)
    local = LocalRound(0, 1, "a", TrainOptions(**made), rule=rule, controls=controls)
    with frozen(model, local.options.freeze):
        return train_epochs(model, cases, ShardDataset([]), local, CPU, "fp32")


RULES = ["plain", "fedgs", "fedgs-unscaled", "fedprox", "scaffold"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_no_rule_and_no_weight_decay_changes_the_encoder(rule, optimiser, cases):
    model = make()
    before, kept = to_weights(model), model.encoder_entries()
    after = train(model, cases, rule, optimiser=optimiser, weight_decay=0.1, grad_clip=1.0).weights
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert not changed & kept
    assert {"decoders.0.0.weight", "decoders.0.1.running_mean", "head.weight"} <= changed


def test_a_disentangled_model_trains_its_styles(cases):
    model = make("sdnet")
    before, kept = to_weights(model), model.encoder_entries()
    after = train(model, cases).weights
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert not changed & kept
    assert changed & model.style_entries()


def test_no_gradient_is_computed_for_the_encoder():
    model = make()
    with frozen(model, "encoder"):
        model(torch.zeros(2, 1, 16, 16)).mean().backward()
        assert all(
            (parameter.grad is None) == (name in model.encoder_entries())
            for name, parameter in model.named_parameters()
        )
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_statistics_of_the_encoder_are_not_estimated_and_the_others_are(cases):
    model = make()
    weights = to_weights(model)
    with frozen(model, "encoder"):
        found = estimate_statistics(model, weights, cases, 4, CPU, "fp32")
    changed = {name for name in weights if not np.array_equal(weights[name], found[name])}
    assert changed
    assert not changed & model.encoder_entries()


def test_afterwards_the_layers_are_those_from_before():
    model = make()
    kinds = [type(module) for module in model.modules()]
    with frozen(model, "encoder"):
        assert isinstance(model.encoders[0][1], FrozenBatchNorm2d)
        assert type(model.decoders[0][1]) is nn.BatchNorm2d
    assert [type(module) for module in model.modules()] == kinds


@pytest.mark.parametrize("norm", ["group", "frozen"])
def test_other_normalisations_can_be_frozen(norm, cases):
    model = build_model("unet", seed=1, norm=norm, **SMALL)
    before = to_weights(model)
    after = train(model, cases).weights
    assert all(np.array_equal(before[name], after[name]) for name in model.encoder_entries())
    assert not np.array_equal(before["head.weight"], after["head.weight"])


def test_a_model_that_names_no_encoder_is_refused(monkeypatch):
    model = make()
    monkeypatch.setattr(type(model), "encoder_entries", lambda self: frozenset())
    assert frozen_entries(model, "none") == frozenset()
    with pytest.raises(FlamesError, match="does not say which entries its encoder has"):
        frozen_entries(model, "encoder")


def test_another_layer_with_statistics_is_named():
    model = make()
    model.encoders[0][1] = nn.SyncBatchNorm(4)
    with (
        pytest.raises(FlamesError, match="a layer SyncBatchNorm with running statistics"),
        frozen(model, "encoder"),
    ):
        pass
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_encoder_of_a_plug_in_s_network_is_frozen():
    net = nn.Sequential()
    net.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    net.head = nn.Conv2d(4, 1, 1)
    model = LogitsModel(net, 1, "a model")
    before = to_weights(model)
    with frozen(model, "encoder"):
        model.train()
        model(torch.rand(2, 1, 16, 16)).mean().backward()
    assert all(
        np.array_equal(before[name], array) for name, array in to_weights(model).items() if "encoder" in name
    )
    assert net.encoder[0].weight.grad is None
    assert net.head.weight.grad is not None
