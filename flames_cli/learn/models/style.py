"""Style of an image: an encoder that finds it, and a renderer that draws an image from anatomy and style.

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
    """Network from an image to its style, a normal distribution over z.

    It has four stride-2 blocks (conv 3×3, BatchNorm, leaky ReLU), the mean over pixels, and a layer of HIDDEN
    features.
    """

    def __init__(self, in_channels: int, style_dims: int) -> None:
        super().__init__()
        ins = (in_channels, *STYLE_WIDTHS[:-1])
        self.blocks = nn.Sequential(*(_halving(i, o) for i, o in zip(ins, STYLE_WIDTHS, strict=True)))
        self.hidden = nn.Sequential(nn.Linear(STYLE_WIDTHS[-1], HIDDEN), nn.LeakyReLU(0.2))
        self.mean = nn.Linear(HIDDEN, style_dims)
        self.log_var = nn.Linear(HIDDEN, style_dims)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z, B×D float32 each, of images B×in_channels×H×W."""
        hidden = self.hidden(self.blocks(images).mean(dim=(2, 3)))
        return self.mean(hidden).float(), self.log_var(hidden).float()


class Renderer(nn.Module):
    """Network that draws an image from content and style; H and W do not change.

    It has three blocks (conv 3×3, AdaIN by z, ReLU), a conv 3×3 and tanh. AdaIN (Huang and Belongie,
    "Arbitrary Style Transfer in Real-time", 2017) normalises every channel of an image to mean 0 and
    variance 1, then scales and shifts it by values computed from z.
    """

    def __init__(self, out_channels: int, content_channels: int, style_dims: int) -> None:
        super().__init__()
        # No bias: AdaIN subtracts the mean of each channel.
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
        """Draw images B×out_channels×H×W float32 in [-1, 1] from content B×C×H×W and z B×D."""
        x = content
        styles = self.scales_and_shifts(z).chunk(RENDERER_BLOCKS, dim=1)
        for conv, style in zip(self.convs, styles, strict=True):
            x = adain(conv(x), *style.chunk(2, dim=1)).relu()
        image: Tensor = self.head(x)
        return image.float().tanh()


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return (1 + scale)·x̂ + shift, where x̂ is `x` normalised to mean 0 and variance 1 per image and channel.

    x: B×C×H×W, H·W at least 2; scale, shift: B×C.
    """
    return torch.addcmul(shift[:, :, None, None], F.instance_norm(x), 1 + scale[:, :, None, None])


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )
