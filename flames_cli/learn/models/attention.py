"""Efficient attention between feature maps (Gao et al., "UTNet", MICCAI 2021).

B batch, C channels, h w rows and columns of a feature map.
"""

import torch.nn.functional as F
from torch import Tensor, nn

GRID = 8
"""Most rows and columns of keys and values, so that memory grows linearly with the queries."""


class EfficientAttention(nn.Module):
    """Attention of every pixel of one map to another map, reduced to at most GRID×GRID pixels.

    `channels`, the number of channels of the queries and of the result, must be a multiple of `heads`.
    """

    def __init__(self, channels: int, source_channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_queries = nn.Conv2d(channels, channels, kernel_size=1, bias=False)
        self.to_keys = nn.Conv2d(source_channels, channels, kernel_size=1, bias=False)
        self.to_values = nn.Conv2d(source_channels, channels, kernel_size=1, bias=False)
        self.out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, queries: Tensor, source: Tensor) -> Tensor:
        """Return B×channels×h×w at the size of `queries`; `source` is B×source_channels of any size."""
        small = _shrink(source)
        found = F.scaled_dot_product_attention(
            self._by_head(self.to_queries(queries)),
            self._by_head(self.to_keys(small)),
            self._by_head(self.to_values(small)),
        )
        mixed: Tensor = self.out(found.transpose(2, 3).reshape_as(queries))
        return mixed

    def _by_head(self, x: Tensor) -> Tensor:
        """Reshape B×C×h×w to B×heads×(h·w)×(C/heads)."""
        by_head = x.reshape(x.shape[0], self.heads, x.shape[1] // self.heads, -1).transpose(2, 3)
        return by_head.contiguous()  # required by torch's fused kernels


class AttentionBlock(nn.Module):
    """Attention and mixing: x + attention(BN(queries), BN(source)), then x + conv 1×1 of ReLU(BN(x)).

    The size of x does not change. With one map for x, queries and source it is self-attention.
    """

    def __init__(self, channels: int, source_channels: int, heads: int) -> None:
        super().__init__()
        self.query_norm = nn.BatchNorm2d(channels)
        self.source_norm = nn.BatchNorm2d(source_channels)
        self.attention = EfficientAttention(channels, source_channels, heads)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, kernel_size=1)
        )

    def forward(self, x: Tensor, queries: Tensor, source: Tensor) -> Tensor:
        """Return B×channels×h×w, the shape of x and `queries`; `source` is B×source_channels of any size."""
        x = x + self.attention(self.query_norm(queries), self.source_norm(source))
        mixed: Tensor = x + self.mix(x)
        return mixed


def _shrink(x: Tensor) -> Tensor:
    height, width = (min(side, GRID) for side in x.shape[2:])
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
