"""Style beside anatomy: what tells an image's scanner, and how to draw an image from both.

B batch, C content channels, D style dimensions, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STYLE_WIDTHS = (16, 32, 64, 128)
HIDDEN = 32
RENDERER_BLOCKS = 3
RENDERER_HIDDEN = 64


class StyleEncoder(nn.Module):
    """An image's style as a normal distribution over z.

    Four stride-2 blocks (conv 3×3, BatchNorm, leaky ReLU), the mean over places, a layer of HIDDEN features.
    """

    def __init__(self, in_channels: int, style_dims: int) -> None:
        super().__init__()
        ins = (in_channels, *STYLE_WIDTHS[:-1])
        self.blocks = nn.Sequential(*(_halving(i, o) for i, o in zip(ins, STYLE_WIDTHS, strict=True)))
        self.hidden = nn.Sequential(nn.Linear(STYLE_WIDTHS[-1], HIDDEN), nn.LeakyReLU(0.2))
        self.mean = nn.Linear(HIDDEN, style_dims)
        self.log_var = nn.Linear(HIDDEN, style_dims)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, B×D float32 each, of images B×in_channels×H×W."""
        hidden = self.hidden(self.blocks(images).mean(dim=(2, 3)))
        return self.mean(hidden).float(), self.log_var(hidden).float()


class Renderer(nn.Module):
    """Draws an image: three blocks (conv 3×3, AdaIN by z, ReLU), a conv 3×3 and tanh; keeps H and W.

    AdaIN is Huang and Belongie's, "Arbitrary Style Transfer in Real-time", 2017: every channel of an image is
    brought to mean 0 and variance 1, then scaled and shifted as z says.
    """

    def __init__(self, out_channels: int, content_channels: int, style_dims: int) -> None:
        super().__init__()
        # No bias: AdaIN takes a channel's mean away.
        self.convs = nn.ModuleList(
            nn.Conv2d(content_channels, content_channels, kernel_size=3, padding=1, bias=False)
            for _ in range(RENDERER_BLOCKS)
        )
        self.scales_and_shifts = nn.Sequential(
            nn.Linear(style_dims, RENDERER_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(RENDERER_HIDDEN, RENDERER_BLOCKS * 2 * content_channels),
        )
        self.head = nn.Conv2d(content_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, content: Tensor, z: Tensor) -> Tensor:
        """Images B×out_channels×H×W float32 in [-1, 1], of content B×C×H×W and z B×D."""
        x = content
        styles = self.scales_and_shifts(z).chunk(RENDERER_BLOCKS, dim=1)
        for conv, style in zip(self.convs, styles, strict=True):
            x = adain(conv(x), *style.chunk(2, dim=1)).relu()
        image: Tensor = self.head(x)
        return image.float().tanh()


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(1 + scale)·x̂ + shift, x̂ being `x` B×C×H×W at mean 0 and variance 1 by image and channel.

    scale, shift: B×C. H·W must be 2 or more.
    """
    return torch.addcmul(shift[:, :, None, None], F.instance_norm(x), 1 + scale[:, :, None, None])


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )
