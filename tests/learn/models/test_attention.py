import numpy as np
import pytest
import torch

from flames_cli.learn.models.attention import GRID, AttentionBlock, EfficientAttention


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_head(x: np.ndarray, weight: np.ndarray, heads: int) -> np.ndarray:
    """Return the 1×1 convolution of C×h×w as heads×(C/heads)×(h·w)."""
    channels = np.tensordot(weight[:, :, 0, 0], x.reshape(len(x), -1), axes=1)
    return channels.reshape(heads, len(weight) // heads, -1)


def test_attention_equals_its_formula():
    attention = EfficientAttention(channels=8, source_channels=6, heads=2)
    queries, source = maps(1, 8, 4, 5), maps(1, 6, 3, 2, seed=1)
    weights = {name: p.detach().numpy() for name, p in attention.named_parameters()}
    q = by_head(queries[0].numpy(), weights["to_queries.weight"], heads=2)
    k, v = (by_head(source[0].numpy(), weights[f"to_{what}.weight"], heads=2) for what in ("keys", "values"))
    scores = np.exp(np.einsum("hdn,hdm->hnm", q, k) / np.sqrt(4))
    found = np.einsum("hnm,hdm->hdn", scores / scores.sum(axis=2, keepdims=True), v).reshape(8, 20)
    expected = weights["out.weight"][:, :, 0, 0] @ found + weights["out.bias"][:, None]
    with torch.no_grad():
        output = attention(queries, source)
    np.testing.assert_allclose(output[0].numpy(), expected.reshape(8, 4, 5), atol=1e-5)


def test_a_larger_source_is_interpolated_to_the_grid():
    attention = EfficientAttention(channels=4, source_channels=4, heads=2)
    queries, source = maps(2, 4, 6, 6), maps(2, 4, 20, 9, seed=1)
    grid = torch.nn.functional.interpolate(source, size=(GRID, GRID), mode="bilinear", align_corners=False)
    torch.testing.assert_close(attention(queries, source), attention(queries, grid))


def test_memory_is_linear_in_the_number_of_queries(monkeypatch):
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v):
        seen.append((q.shape[2], k.shape[2]))
        return original(q, k, v)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", spy)
    attention = EfficientAttention(channels=4, source_channels=4, heads=2)
    for size in (16, 64):
        attention(maps(1, 4, size, size), maps(1, 4, size, size))
    assert seen == [(16 * 16, GRID * GRID), (64 * 64, GRID * GRID)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_changes_nothing(layout):
    block = AttentionBlock(channels=8, source_channels=4, heads=4).eval()
    x, queries, source = maps(2, 8, 9, 7), maps(2, 8, 9, 7, seed=1), maps(2, 4, 5, 4, seed=2)
    expected = block(x, queries, source)
    found = block(*(part.contiguous(memory_format=layout) for part in (x, queries, source)))
    torch.testing.assert_close(found, expected)


def test_self_attention_sees_the_whole_map():
    block = AttentionBlock(channels=4, source_channels=4, heads=1).eval()
    x = maps(1, 4, 8, 8).requires_grad_()
    block(x, queries=x, source=x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=1) > 0).all()
