import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.core.federated.local_rules import scaling_factor
from flames_cli.learn.local_updates import batch_scale, make_local_update


class Cases:
    """A stub of ShardDataset without pixels."""

    def __init__(self, *sizes):
        self._sizes = sizes

    def lesion(self, index):
        return self._sizes[index]

    def small_rule(self, index):
        from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule

        return SmallLesionRule("area", 100, 100)


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1, affine=False))
    model[0].weight.data = torch.tensor([[1.0, -1.0]])
    model[0].weight.grad = torch.tensor([[0.5, 2.0]])
    return model


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


MASKS = torch.zeros(2, 1, 10, 10)
MASKS[0, 0, 0, :1] = 1
MASKS[1, 0, :5] = 1


def test_plain_reports_the_trained_weights(model):
    rule = make_local_update("plain", model, sgd(model))
    rule.step()
    np.testing.assert_allclose(rule.weights()["0.weight"], [[0.95, -1.2]])


def test_fedgs_reports_the_scaled_update_and_trains_like_plain(model):
    rule = make_local_update("fedgs", model, sgd(model))
    rule.scale = batch_scale(MASKS, [1, 0], Cases("large", "small"))
    rule.step()
    factor = scaling_factor([1, 50], [True, False], 100, 100)
    np.testing.assert_allclose(model[0].weight.detach(), [[0.95, -1.2]])
    expected = np.array([[1.0, -1.0]]) - factor * 0.1 * np.array([[0.5, 2.0]])
    np.testing.assert_allclose(rule.weights()["0.weight"], expected, rtol=1e-6)
    assert list(rule.weights()) == list(model.state_dict())


def test_fedgs_without_small_lesions_reports_the_trained_weights(model):
    rule = make_local_update("fedgs", model, sgd(model))
    rule.scale = batch_scale(MASKS, [0, 1], Cases("large", "none"))
    rule.step()
    np.testing.assert_array_equal(rule.weights()["0.weight"], model[0].weight.detach())


def test_fedgs_without_its_factor_counts_every_step_once(model):
    rule = make_local_update("fedgs-unscaled", model, sgd(model))
    assert not rule.uses_scale
    rule.step()
    np.testing.assert_array_equal(rule.weights()["0.weight"], model[0].weight.detach())


def test_fedprox_pulls_towards_the_received_weights(model):
    rule = make_local_update("fedprox", model, sgd(model), mu=0.5)
    model[0].weight.data += 1.0
    rule.step()
    expected = np.array([[2.0, 0.0]]) - 0.1 * (np.array([[0.5, 2.0]]) + 0.5 * 1.0)
    np.testing.assert_allclose(rule.weights()["0.weight"], expected, rtol=1e-6)


def test_scaffold_corrects_the_gradient(model):
    correction = {"0.weight": np.array([[1.0, -2.0]], np.float32)}
    rule = make_local_update("scaffold", model, sgd(model), correction=correction)
    rule.step()
    np.testing.assert_allclose(rule.weights()["0.weight"], [[1 - 0.1 * 1.5, -1.0]], rtol=1e-6)
    np.testing.assert_array_equal(correction["0.weight"], [[1.0, -2.0]])


@pytest.mark.parametrize("name", ["median", "scaffold"])
def test_an_unknown_rule_or_one_without_its_correction_is_rejected(name, model):
    with pytest.raises(ValueError, match="expected plain, fedgs"):
        make_local_update(name, model, sgd(model))
