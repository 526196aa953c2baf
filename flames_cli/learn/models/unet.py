"""A small plain U-Net (Ronneberger et al., 2015) with BatchNorm, for CPUs and quick runs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel, check_positive, double_conv, resize

MAX_DEPTH = 10
MAX_CHANNELS = 4096
"""Most channels of the deepest level, which gives half a billion parameters at a depth of 4."""


class UNet(SegmentationModel):
    """U-Net with `depth` halvings that double the channels from `base_channels`; H and W at least 2**depth.

    Dropout with probability `dropout`, in [0, 1), follows every block.

    Raises:
        FlamesError: an option is out of range.
    """

    def __init__(
        self, in_channels: int = 1, base_channels: int = 16, depth: int = 4, dropout: float = 0.0
    ) -> None:
        check_shape("unet", in_channels, base_channels, depth)
        if not 0 <= dropout < 1:
            raise FlamesError(
                f"dropout = {dropout} of model unet: expected 0 <= dropout < 1; change the model option"
            )
        super().__init__(in_channels, min_size=2**depth)
        widths = [base_channels * 2**level for level in range(depth + 1)]
        ins = [in_channels, *widths[:-1]]
        self.encoders = nn.ModuleList(double_conv(i, o, dropout) for i, o in zip(ins, widths, strict=True))
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.upconvs = nn.ModuleList(nn.ConvTranspose2d(i, o, kernel_size=2, stride=2) for i, o in upwards)
        self.decoders = nn.ModuleList(double_conv(2 * o, o, dropout) for _, o in upwards)
        self.head = nn.Conv2d(base_channels, 1, kernel_size=1)

    def encoder_entries(self) -> frozenset[str]:
        """Return the names of the entries of all levels on the way down."""
        return self.entries_below("encoders", "encoder_attention")

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return depth + 1 feature maps, the first at the size of `x`."""
        features = [self.encoders[0](x)]
        for encoder in self.encoders[1:]:
            features.append(encoder(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×H×W."""
        *skips, x = features
        for upconv, decoder, skip in zip(self.upconvs, self.decoders, reversed(skips), strict=True):
            x = decoder(torch.cat([resize(upconv(x), like=skip), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def check_shape(model: str, in_channels: int, base_channels: int, depth: int) -> None:
    """Raise FlamesError, which names `model`, if no U-Net of this shape can be built."""
    check_positive(model, in_channels=in_channels, base_channels=base_channels, depth=depth)
    if depth > MAX_DEPTH or base_channels * 2**depth > MAX_CHANNELS:
        raise FlamesError(
            f"base_channels = {base_channels} and depth = {depth} of model {model}: "
            f"expected a depth of at most {MAX_DEPTH} and base_channels · 2^depth of at most {MAX_CHANNELS}; "
            "change the model options"
        )
