import numpy as np
import torch

from flames_cli.learn.models.style import Renderer, StyleEncoder, adain


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_adain_equals_its_formula():
    x, scale, shift = draw(2, 3, 5, 4), draw(2, 3, seed=1), draw(2, 3, seed=2)
    a = x.numpy()
    mean, var = a.mean(axis=(2, 3), keepdims=True), a.var(axis=(2, 3), keepdims=True)
    s, t = (part.numpy()[:, :, None, None] for part in (scale, shift))
    expected = (1 + s) * (a - mean) / np.sqrt(var + 1e-5) + t
    np.testing.assert_allclose(adain(x, scale, shift).numpy(), expected, atol=1e-5)


def test_another_style_gives_another_image():
    renderer, content = Renderer(out_channels=3, content_channels=8, style_dims=4), draw(2, 8, 9, 7).tanh()
    one, other = renderer(content, draw(2, 4, seed=1)), renderer(content, draw(2, 4, seed=2))
    assert one.shape == (2, 3, 9, 7)
    assert (one - other).abs().max() > 1e-3


def test_each_image_is_drawn_in_its_own_style():
    renderer, content, z = Renderer(1, 8, 4), draw(2, 8, 9, 7), draw(2, 4)
    torch.testing.assert_close(renderer(content, z)[1:], renderer(content[1:], z[1:]), atol=1e-6, rtol=1e-5)


def test_every_layer_of_the_renderer_depends_on_the_style():
    renderer, content = Renderer(1, 8, 4), draw(1, 8, 9, 7)
    renderer(content, draw(1, 4)).sum().backward()
    per_block = renderer.scales_and_shifts[2].weight.grad.abs().sum(dim=1).view(3, 2, 8)
    assert (per_block.sum(dim=2) > 0).all()


def test_the_encoder_distinguishes_a_bright_image_from_a_dark_one():
    encoder = StyleEncoder(in_channels=1, style_dims=8).eval()
    mean, log_var = encoder(torch.stack([torch.full((1, 33, 20), 0.8), torch.full((1, 33, 20), -0.8)]))
    assert mean.shape == log_var.shape == (2, 8)
    assert not torch.allclose(mean[0], mean[1], atol=1e-4)
