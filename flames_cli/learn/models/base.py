"""Base class and building blocks of the segmentation models. B batch, C channels, H W pixels."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.errors import FlamesError


class SegmentationModel(nn.Module, ABC):
    """A network from images B×in_channels×H×W to tumour probabilities B×1×H×W; H, W >= `min_size`."""

    wide: ClassVar[bool] = False
    """True if most of the time goes into layers of hundreds of channels (see `devices.place`)."""
    channels_last: bool = True
    """False if the model needs memory in which channels come before rows and columns."""

    def __init__(self, in_channels: int, min_size: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.min_size = min_size

    @property
    def network(self) -> nn.Module:
        """The module whose parts have the names of the model's entries: the model, or what it adapts."""
        return self

    @abstractmethod
    def encode(self, x: Tensor) -> list[Tensor]:
        """Return feature maps B×C×h×w, from the finest (first skip) to the deepest."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×h×w, at any resolution, from the feature maps of `encode`."""

    def bottleneck(self, x: Tensor) -> Tensor:
        """Return the deepest features, B×C×h×w float32, of images B×in_channels×H×W; errors as `forward`."""
        self._check(x)
        return self.encode(x)[-1].float()

    def style_entries(self) -> frozenset[str]:
        """Return the names of the state-dict entries that model style, not anatomy; none in a plain model."""
        return frozenset()

    def encoder_entries(self) -> frozenset[str]:
        """Return the names of the state-dict entries of the encoder, which `--freeze encoder` does not train.

        An empty set: the model does not say which they are, and cannot be trained in this way.
        """
        return frozenset()

    def entries_below(self, *parts: str) -> frozenset[str]:
        """Return the names of the state-dict entries of the modules `parts`, such as `content.encoders`,
        buffers included."""
        starts = tuple(f"{part}." for part in parts)
        return frozenset(name for name in self.state_dict() if name.startswith(starts))

    def renderer_entries(self) -> frozenset[str]:
        """Return the `style_entries` of the renderer, which draws images; none in a plain model."""
        return frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities in [0, 1], B×1×H×W, in float32 even under autocast.

        Raises:
            FlamesError: x has another number of channels, or H or W is below `min_size`.
        """
        self._check(x)
        # bfloat16 has 8 bits of mantissa: a sigmoid in bfloat16 rounds 0.998 to 1.
        logits = self.decode(self.encode(x)).float()
        return resize(logits, like=x).sigmoid()

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise FlamesError(
                f"got images of shape {tuple(x.shape)}, expected B×{self.in_channels}×H×W; "
                "reshape them or set the model's in_channels"
            )
        height, width = x.shape[2:]
        if min(height, width) < self.min_size:
            raise FlamesError(
                f"got images of {height}×{width} pixels, expected at least {self.min_size}×{self.min_size}; "
                "use larger images or a model with fewer levels"
            )


def check_positive(model: str, **options: int) -> None:
    """Raise FlamesError if an option is below 1; the message names `model` and the first such option."""
    for name, value in options.items():
        if value < 1:
            raise FlamesError(
                f"{name} = {value} of model {model}: expected 1 or more; change the model option"
            )


def double_conv(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """Return a block of (conv 3×3, BatchNorm, ReLU) twice, then dropout; H and W do not change."""
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
    """Resize `x` to the H and W of `like`, bilinear (half-pixel centres); equal sizes return `x` itself."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
