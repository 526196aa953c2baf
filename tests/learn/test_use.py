from dataclasses import replace

import numpy as np
import pytest
import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.segment import Ensemble, Segmenter
from flames_cli.learn.use import mean_probabilities, open_model
from flames_cli.store.models import Architecture, ModelInfo, ModelInput, Training
from tests.support.datasets import draw_discs

OPTIONS = {"base_channels": 4, "depth": 2}


def describe(channels=1, **options):
    made = Architecture("unet", options={**OPTIONS, **options})
    return ModelInfo("m", made, ModelInput("US", ("breast",), 16, channels), Training("client"))


def weights_of(seed=1, **options):
    return to_weights(build_model("unet", seed=seed, **{**OPTIONS, **options}))


def images_of(dataset):
    return np.stack([dataset.example(index)[0] for index in range(len(dataset))])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tta", ["none", "flips"])
def test_probabilities_are_those_of_evaluate(channels, tta):
    dataset, weights = ShardDataset([draw_discs(5, channels=channels)]), weights_of(in_channels=channels)
    model = open_model(describe(channels), weights, "cpu", "fp32", 2)
    segmenter = Segmenter("unet", {**OPTIONS, "in_channels": channels}, "cpu", "fp32", 2)
    expected = list(segmenter.probabilities(weights, dataset, tta=tta))
    np.testing.assert_array_equal(model.probabilities(images_of(dataset), tta), expected)


def test_an_ensemble_is_the_mean_of_its_members_as_in_evaluate():
    dataset, members = ShardDataset([draw_discs(3)]), [weights_of(seed) for seed in (1, 2, 3)]
    found = mean_probabilities(
        [open_model(describe(), one, "cpu", "fp32", 3).probabilities(images_of(dataset)) for one in members]
    )
    segmenter = Segmenter("unet", OPTIONS, "cpu", "fp32", 3)  # torch rounds a batch of one image differently
    expected = list(Ensemble([(segmenter, one) for one in members]).probabilities({}, dataset))
    np.testing.assert_array_equal(found, expected)


def test_no_image_gives_no_map():
    model = open_model(describe(), weights_of(), "cpu")
    assert model.probabilities(np.zeros((0, 16, 16), np.float32)).shape == (0, 16, 16)


def test_weights_of_another_size_are_rejected_before_the_network_is_made(monkeypatch):
    made = []
    real = torch.nn.Module.to_empty
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *a, **k: made.append(1) or real(*a, **k))
    devices = []
    build = build_model

    def noted(*args, **options):
        devices.append(torch.empty(0).device.type)
        return build(*args, **options)

    monkeypatch.setattr("flames_cli.learn.use.build_model", noted)
    with pytest.raises(FlamesError, match=r"has shape \(4, 1, 3, 3\), expected \(256, 1, 3, 3\)"):
        open_model(describe(base_channels=256, depth=4), weights_of(depth=4), "cpu")
    assert (devices, made) == (["meta"], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_channels": 10**18}, "at most 4096"),
        ({"base_channels": -1}, "expected 1 or more"),
        ({"colour": 3}, "unknown option"),
        ({"in_channels": 3}, "in_channels = 3, but the images have 1"),
    ],
)
def test_wrong_options_are_rejected(change, message):
    with pytest.raises(FlamesError, match=message):
        open_model(describe(**change), weights_of(), "cpu")


def test_an_unknown_architecture_is_rejected():
    with pytest.raises(FlamesError, match="model 'transformer' is not known"):
        open_model(replace(describe(), architecture=Architecture("transformer")), weights_of(), "cpu")
