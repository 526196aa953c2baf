import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.core.federated.final_statistics import MEAN, VARIANCE
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.normalisation import estimate_statistics, frozen_statistics, own_statistics
from tests.support.datasets import draw_discs

CPU = torch.device("cpu")


@pytest.fixture
def cases():
    return ShardDataset([draw_discs(8)])


def make(name="unet", seed=1):
    return build_model(name, seed=seed, base_channels=2, depth=1)


def is_statistic(name):
    return name.endswith((MEAN, VARIANCE))


def test_the_first_layers_statistics_are_those_of_its_input(cases):
    model = make()
    found = estimate_statistics(model, to_weights(model), cases, 4, CPU, "fp32")
    images = torch.from_numpy(np.stack([cases.example(index)[0] for index in range(8)]))[:, None] * 2 - 1
    seen = model.encoders[0][0](images).detach()
    expected = seen.mean(dim=(0, 2, 3)).numpy()
    np.testing.assert_allclose(found["encoders.0.1.running_mean"], expected, atol=1e-5)
    halves = [part.var(dim=(0, 2, 3)).numpy() for part in seen.split(4)]
    np.testing.assert_allclose(found["encoders.0.1.running_var"], np.mean(halves, axis=0), rtol=1e-4)


def test_statistics_do_not_depend_on_earlier_ones_and_nothing_else_changes(cases):
    weights = to_weights(make())
    spoiled = {name: array + 5 if is_statistic(name) else array for name, array in weights.items()}
    one, other = (estimate_statistics(make(), given, cases, 4, CPU, "fp32") for given in (weights, spoiled))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
        if not is_statistic(name):
            np.testing.assert_array_equal(array, weights[name])
    assert list(one) == list(weights)


def test_frozen_statistics_do_not_change_until_the_block_ends():
    model, images = make(), torch.rand(2, 1, 8, 8)
    before = to_weights(model)
    with frozen_statistics(model):
        inside = model(images)
    assert all(np.array_equal(to_weights(model)[name], before[name]) for name in before if is_statistic(name))
    torch.testing.assert_close(model(images), inside)
    assert any(
        not np.array_equal(to_weights(model)[name], before[name]) for name in before if is_statistic(name)
    )


@pytest.mark.parametrize("name", ["unet", "sdnet"])
def test_every_part_of_a_model_is_run(name, cases):
    weights = to_weights(make(name))
    found = estimate_statistics(make(name), weights, cases, 4, CPU, "fp32")
    names = [name for name in weights if is_statistic(name)]
    assert all(not np.array_equal(found[name], weights[name]) for name in names)


def test_own_statistics_are_those_of_the_weights_until_the_block_ends(cases):
    model = make()
    model(torch.rand(2, 1, 16, 16))
    before = to_weights(model)
    expected = estimate_statistics(make(), before, cases, 4, CPU, "fp32")
    with own_statistics(model, cases, 4, CPU, "fp32"):
        inside = to_weights(model)
    for name in before:
        if is_statistic(name):
            np.testing.assert_array_equal(inside[name], expected[name])
            assert not np.array_equal(inside[name], before[name])
        np.testing.assert_array_equal(to_weights(model)[name], before[name])
    assert all(layer.momentum == 0.1 for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
