import numpy as np
import pytest
import torch
from torch import nn

from flames_cli.core.federated.local_rules import scaling_factor
from flames_cli.errors import FlamesError
from flames_cli.learn.local_updates import LocalUpdate, batch_scale, make_local_update
from flames_cli.learn.train_options import PluginRule


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


def plug_in(model, **methods):
    """The rule of a plug-in whose methods return these results, or raise them."""

    def answer(found):
        def method(self):
            if isinstance(found, BaseException):
                raise found
            return found

        return method

    kind = type("Own", (LocalUpdate,), {name: answer(one) for name, one in methods.items()})
    return make_local_update(PluginRule(kind, "strategy 'mine' of pack 1.0"), model, sgd(model))


def test_the_class_of_a_plug_in_trains_as_the_plain_rule_from_which_it_is_made(model):
    rule = plug_in(model)
    rule.step()
    np.testing.assert_allclose(rule.weights()["0.weight"], [[0.95, -1.2]])
    assert not rule.changes_report


def test_a_rule_with_its_own_weights_changes_the_report(model):
    every = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    rule = plug_in(model, weights={**every, "0.weight": torch.ones(1, 2, dtype=torch.float64)})
    assert rule.changes_report
    assert rule.weights()["0.weight"].dtype == np.float32
    assert list(rule.weights()) == list(model.state_dict())


def test_a_rule_may_differentiate_again_at_other_weights(model):
    class Twice(LocalUpdate):
        def step(self):
            self.differentiate()
            self.optimiser.step()

    rule = make_local_update(PluginRule(Twice, "x"), model, sgd(model))
    rule.differentiate = lambda: model[0].weight.grad.fill_(1)
    rule.step()
    np.testing.assert_allclose(rule.weights()["0.weight"], [[0.9, -1.1]])


def test_what_a_rule_returns_does_not_change_with_its_next_step(model):
    class Remembering(LocalUpdate):
        keeps_state = True

        def state(self):
            return {"now": self.model[0].weight.detach()}

    rule = make_local_update(PluginRule(Remembering, "x"), model, sgd(model))
    before = rule.state()["now"]
    rule.step()
    np.testing.assert_array_equal(before, [[1, -1]])
    assert rule.keeps_state


@pytest.mark.parametrize(
    ("call", "methods", "message"),
    [
        ("weights", {"weights": {}}, r"weights\(\) of its local update gives '0.weight' is missing"),
        (
            "weights",
            {"weights": {"0.weight": np.ones(3)}},
            "expected finite arrays with the names and",
        ),
        ("weights", {"weights": [1]}, "gives a list, expected a dict of arrays"),
        ("weights", {"weights": {"0.weight": np.array(["a"])}}, "'0.weight' of type <U1"),
        ("weights", {"weights": ValueError("no\nmore")}, r"fails \(ValueError: no\); correct the plug-in"),
        ("step", {"step": SystemExit(0)}, r"step\(\) of its local update fails \(SystemExit: 0\)"),
        ("step", {"step": KeyError("x")}, r"step\(\) of its local update fails \(KeyError: 'x'\)"),
        ("state", {"state": {"a": np.array([np.nan])}}, "'a' contains values that are not finite"),
        ("state", {"state": {1: np.ones(1)}}, "gives a dict, expected a dict of arrays by name"),
        ("state", {"state": {"a": np.ones(1, np.longdouble)}}, r"'a' of type \w+, expected arrays"),
    ],
)
def test_what_a_rule_does_wrong_is_one_line_with_the_plug_in(call, methods, message, model):
    rule = plug_in(model, **methods)
    rule.differentiate = lambda: None
    with pytest.raises(FlamesError, match=message) as caught:
        getattr(rule, call)()
    assert str(caught.value).startswith("strategy 'mine' of pack 1.0: ")
    assert "\n" not in str(caught.value)


def test_a_rule_that_cannot_be_made_is_named(model):
    class Broken(LocalUpdate):
        def __init__(self, model):
            super().__init__(model, None)

    with pytest.raises(FlamesError, match=r"__init__\(\) of its local update fails \(TypeError"):
        make_local_update(PluginRule(Broken, "x"), model, sgd(model))


def test_only_the_class_says_that_a_rule_keeps_a_state(model):
    class Late(LocalUpdate):
        def __init__(self, model, optimiser):
            super().__init__(model, optimiser)
            self.keeps_state = True

    with pytest.raises(FlamesError, match="gives keeps_state another value than the class has, expected it"):
        make_local_update(PluginRule(Late, "x"), model, sgd(model))
