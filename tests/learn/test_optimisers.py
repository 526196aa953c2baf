import numpy as np
import pytest
import torch

from flames_cli.core.rng import derive_rng
from flames_cli.learn.optimisers import OPTIMISERS, WEIGHT_DECAY, ScaledOptimiser, make_optimiser
from tests.support.datasets import find_shared


@pytest.fixture(scope="module")
def numbers():
    with np.load(find_shared("golden/fedgs.npz")) as file:
        return dict(file)


@pytest.mark.parametrize("client", [0, 1, 2])
def test_the_cumulative_update_is_the_authors(client, numbers):
    parameters = [torch.nn.Parameter(torch.tensor(numbers[f"start_l{layer}"])) for layer in (0, 1)]
    adamw = make_optimiser("adamw", parameters, float(numbers["lr"]), WEIGHT_DECAY["adamw"])
    scaled = ScaledOptimiser(adamw)
    for step, factor in enumerate(numbers[f"c{client}_p_factors"]):
        for layer, parameter in enumerate(parameters):
            parameter.grad = torch.tensor(numbers[f"c{client}_s{step}_grad_l{layer}"])
        scaled.step(float(factor))
    for layer, parameter in enumerate(parameters):
        # The fused kernel rounds otherwise than the authors' AdamW.
        np.testing.assert_allclose(
            parameter.detach(), numbers[f"c{client}_local_l{layer}"], rtol=0, atol=3e-7
        )
        update = numbers[f"start_l{layer}"] - scaled.reported(parameter).numpy()
        np.testing.assert_allclose(update, numbers[f"c{client}_cum_grad_l{layer}"], rtol=0, atol=3e-7)


@pytest.mark.parametrize("client", [0, 1, 2])
def test_without_the_factor_the_update_is_the_sum_of_adams_steps_without_decay(client, numbers):
    """AdamW by its formula (Loshchilov & Hutter 2019), on the gradients of the authors' run."""
    lr, steps = float(numbers["lr"]), len(numbers[f"c{client}_p_factors"])
    for layer in (0, 1):
        gradients = [numbers[f"c{client}_s{step}_grad_l{layer}"].astype(np.float64) for step in range(steps)]
        first, second, update = 0.0, 0.0, 0.0
        for step, gradient in enumerate(gradients, 1):
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            update += lr * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        start = numbers[f"start_l{layer}"]
        parameter = torch.nn.Parameter(torch.tensor(start))
        scaled = ScaledOptimiser(make_optimiser("adamw", [parameter], lr, WEIGHT_DECAY["adamw"]))
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient, dtype=torch.float32)
            scaled.step()
        np.testing.assert_allclose(start - scaled.reported(parameter).numpy(), update, rtol=0, atol=3e-7)
        assert not torch.equal(scaled.reported(parameter), parameter.detach())


def quadratic(parameter):
    parameter.grad = (parameter.detach() - 3.0).clone()


def run(name, factors, weight_decay=0.0, lr=0.1):
    """Return the parameter, its optimiser, and each step's update without decoupled weight decay."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    scaled = ScaledOptimiser(make_optimiser(name, [parameter], lr, weight_decay))
    updates = []
    for factor in factors:
        quadratic(parameter)
        before = parameter.detach().clone()
        scaled.step(factor)
        decay = lr * weight_decay if name == "adamw" else 0.0
        updates.append(before * (1 - decay) - parameter.detach())
    return parameter, scaled, updates


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_report_is_the_start_minus_the_scaled_updates(name, weight_decay):
    factors = [1.0, 2.5, 1.0, 1.7]
    _, scaled, updates = run(name, factors, weight_decay)
    total = sum(factor * update for factor, update in zip(factors, updates, strict=True))
    (parameter,) = scaled._optimiser.param_groups[0]["params"]
    torch.testing.assert_close(scaled.reported(parameter), torch.tensor([1.0, -2.0]) - total)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_scaling_does_not_change_training(name):
    plain, _, _ = run(name, [1.0] * 5, 0.01)
    scaled, _, _ = run(name, [2.0] * 5, 0.01)
    assert torch.equal(plain, scaled)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps_that_count_once_are_reported_bit_for_bit(name):
    parameter, scaled, _ = run(name, [1.0] * 7)
    assert torch.equal(scaled.reported(parameter), parameter)


def test_a_report_does_not_change_with_later_steps():
    parameter, scaled, _ = run("sgd", [1.0])
    reported = scaled.reported(parameter)
    kept = reported.clone()
    quadratic(parameter)
    scaled.step()
    assert torch.equal(reported, kept)


def test_parameters_without_gradients_do_not_change():
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    scaled = ScaledOptimiser(make_optimiser("adamw", [used, unused], 0.1, 0.1))
    quadratic(used)
    scaled.step(2.0)
    assert torch.equal(scaled.reported(unused), torch.ones(2))
    assert not torch.equal(scaled.reported(used), torch.ones(2))


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fused_steps_are_those_of_the_plain_optimiser(name, layout):
    images = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)

    def train(fused):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Conv2d(5, 4, 1))
        for index, parameter in enumerate(model.parameters()):
            values = derive_rng(index, "parameter").normal(size=parameter.shape)
            parameter.data = torch.from_numpy(values).float()
        model.to(memory_format=layout)
        if fused:
            optimiser = make_optimiser(name, model.parameters(), 0.01, 0.1)
        else:
            optimiser = OPTIMISERS[name](model.parameters(), lr=0.01, weight_decay=0.1, fused=False)
        for _ in range(3):
            optimiser.zero_grad()
            model(images.contiguous(memory_format=layout)).square().mean().backward()
            optimiser.step()
        return [parameter.detach() for parameter in model.parameters()]

    for fused, plain in zip(train(True), train(False), strict=True):
        torch.testing.assert_close(fused, plain)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_kernels_are_fused_where_they_were_tested_and_torch_chooses_elsewhere(name):
    made = {
        device: make_optimiser(name, [torch.nn.Parameter(torch.zeros(2, device=device))], 0.1, None)
        for device in ("cpu", "meta")
    }
    assert {device: optimiser.defaults["fused"] for device, optimiser in made.items()} == {
        "cpu": True,
        "meta": None,
    }
