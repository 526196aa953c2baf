"""What every segmentation model shares. B batch, C channels, H W pixels."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.errors import FlamesError


class SegmentationModel(nn.Module, ABC):
    """Images B×in_channels×H×W in, tumour probabilities B×1×H×W out, for H and W from `min_size` up."""

    def __init__(self, in_channels: int, min_size: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.min_size = min_size

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps B×C×h×w, from the finest (first skip) to the deepest."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits B×1×h×w from what `encode` gave, at any resolution."""

    def bottleneck(self, x: Tensor) -> Tensor:
        """The deepest features, B×C×h×w float32, of images B×in_channels×H×W; raises as `forward`."""
        self._check(x)
        return self.encode(x)[-1].float()

    def style_entries(self) -> frozenset[str]:
        """Names of the state dict's entries that hold style, not anatomy; none in a plain model."""
        return frozenset()

    def renderer_entries(self) -> frozenset[str]:
        """Those of `style_entries` that draw an image from its anatomy and style; none in a plain model."""
        return frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities in [0, 1], B×1×H×W float32 even under autocast.

        Raises FlamesError where x has another number of channels, or H or W is below `min_size`.
        """
        self._check(x)
        # bfloat16 has 8 bits of mantissa: a sigmoid in it cannot tell 0.998 from 1.
        logits = self.decode(self.encode(x)).float()
        return resize(logits, like=x).sigmoid()

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise FlamesError(
                f"images of shape {tuple(x.shape)}: this model takes B×{self.in_channels}×H×W; "
                "reshape them or set the model's in_channels"
            )
        height, width = x.shape[2:]
        if min(height, width) < self.min_size:
            raise FlamesError(
                f"images of {height}×{width} pixels: this model needs at least "
                f"{self.min_size}×{self.min_size}; take larger images or a shallower model"
            )


def check_positive(model: str, **options: int) -> None:
    """Raises FlamesError naming `model` and the first of its `options` that is below 1."""
    for name, value in options.items():
        if value < 1:
            raise FlamesError(f"{name} = {value} of model {model}: expected 1 or more")


def double_conv(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """(conv 3×3, BatchNorm, ReLU) twice, then dropout; keeps H and W."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
    )


def resize(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the H and W of `like`, bilinear (half-pixel centres); untouched where they agree."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
