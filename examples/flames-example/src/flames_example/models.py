"""A small segmentation model that looks far without losing resolution."""

import torch
from torch import nn


class DilatedNet(nn.Module):
    """Residual dilated convolutions at full resolution (Yu and Koltun 2016, "Multi-scale context").

    Args:
        in_channels: number of channels of the images; FLAMES sets it.
        channels: width of the network, a multiple of 4.
        blocks: number of residual blocks; block i has dilation 2^i, so that 5 blocks see 127 pixels.
    """

    summary = "dilated convolutions at full resolution, 14 thousand parameters"

    def __init__(self, in_channels: int, channels: int = 16, blocks: int = 5) -> None:
        super().__init__()
        if channels < 4 or channels % 4 or not 1 <= blocks <= 8:
            raise ValueError(
                f"channels = {channels} and blocks = {blocks}, expected a multiple of 4, and 1 to 8 blocks"
            )
        self.enter = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(_Block(channels, dilation=2**i) for i in range(blocks))
        self.leave = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits B×1×H×W of images B×in_channels×H×W, of any size."""
        features = self.enter(images)
        for block in self.blocks:
            features = block(features)
        return self.leave(features)


class _Block(nn.Module):
    """Adds to its input a dilated convolution of it. GroupNorm needs no statistics of a client's images."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.GroupNorm(4, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=dilation, dilation=dilation),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.change(features)
