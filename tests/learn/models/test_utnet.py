import pytest
import torch

from flames_cli.learn.models import build_model
from flames_cli.learn.models.arrays import load_weights, to_weights

SMALL = {"base_channels": 4, "depth": 2, "heads": 2}


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (96, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_utnet_takes_any_size_from_its_smallest(size, channels):
    model = build_model("utnet", seed=0, base_channels=4, in_channels=channels).eval()
    x = images(2, channels, *size)
    with torch.inference_mode():
        output, deepest = model(x), model.bottleneck(x)
    assert output.shape == (2, 1, *size)
    assert output.dtype == deepest.dtype == torch.float32
    assert 0 <= output.min() <= output.max() <= 1
    assert deepest.shape == (2, 64, size[0] // 16, size[1] // 16)


def test_utnet_works_with_one_level():
    model = build_model("utnet", seed=0, base_channels=2, depth=1, heads=4)
    assert model.min_size == 2
    assert model(images(2, 1, 5, 3)).shape == (2, 1, 5, 3)


def test_utnet_looks_beyond_the_reach_of_its_convolutions():
    reached = {}
    for name, options in (("unet", {"base_channels": 4, "depth": 2}), ("utnet", SMALL)):
        x = images(1, 1, 96, 96).requires_grad_()
        build_model(name, seed=0, **options).eval()(x)[0, 0, 0, 0].backward()
        reached[name] = bool((x.grad[..., 80:, 80:] != 0).any())
    assert reached == {"unet": False, "utnet": True}


def test_weights_survive_a_round_trip():
    source, model = (build_model("utnet", seed=seed, **SMALL).eval() for seed in (1, 2))
    load_weights(model, to_weights(source))
    x = images(1, 1, 16, 16)
    assert torch.equal(model(x), source(x))
