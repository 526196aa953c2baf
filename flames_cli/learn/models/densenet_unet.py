"""FLAMES' U-Net on the first layers of a DenseNet121 (Huang et al., 2017): 31,264,705 parameters.

Attribute names and their order are those of the FLAMES authors' model, so that their checkpoints load.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.learn.models.base import SegmentationModel, check_positive, double_conv, resize

DROPOUT = 0.3


class DenseNetUNet(SegmentationModel):
    """U-Net with a DenseNet121 block as its first encoder, for images of 31×31 pixels or more.

    A stride-2 convolution (which rounds up) and four halvings leave at least one pixel of 31.

    Raises:
        FlamesError: in_channels is below 1.
    """

    wide = True

    def __init__(self, in_channels: int = 1) -> None:
        check_positive("densenet-unet", in_channels=in_channels)
        super().__init__(in_channels, min_size=31)
        # Imported here because torchvision takes seconds to load and no other model needs it.
        from torchvision.models import densenet121

        densenet = densenet121(weights=None).features
        self.encoder0 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.encoder1 = densenet.denseblock1
        self.encoder2 = densenet.transition1
        self.encoder3 = double_conv(128, 256, DROPOUT)
        self.encoder4 = double_conv(256, 512, DROPOUT)
        self.encoder5 = double_conv(512, 1024, DROPOUT)
        self.upconv1, self.decoder1 = _up(1024, 512, skip_channels=512)
        self.upconv2, self.decoder2 = _up(512, 256, skip_channels=256)
        self.upconv3, self.decoder3 = _up(256, 128, skip_channels=128)
        self.upconv4, self.decoder4 = _up(128, 64, skip_channels=256)
        self.final_conv = nn.Conv2d(64, 1, kernel_size=1)

    def encoder_entries(self) -> frozenset[str]:
        """Return the names of the entries of the DenseNet121: the part that ImageNet weights fill.

        The convolution before it and the levels after it are drawn by seed, and trained.
        """
        return self.entries_below("encoder1", "encoder2")

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return five maps of 256, 128, 256, 512 and 1024 channels, at about 1/2, 1/4, … 1/32 of H and W."""
        features = [self.encoder1(self.encoder0(x).relu())]
        features.append(self.encoder2(features[-1]))
        for encoder in (self.encoder3, self.encoder4, self.encoder5):
            features.append(encoder(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×h×w at half of the images' H and W, rounded up."""
        *skips, x = features
        stages = (
            (self.upconv1, self.decoder1),
            (self.upconv2, self.decoder2),
            (self.upconv3, self.decoder3),
            (self.upconv4, self.decoder4),
        )
        for (upconv, decoder), skip in zip(stages, reversed(skips), strict=True):
            x = decoder(torch.cat([resize(upconv(x), like=skip), skip], dim=1))
        logits: Tensor = self.final_conv(x)
        return logits


def _up(in_channels: int, out_channels: int, skip_channels: int) -> tuple[nn.ConvTranspose2d, nn.Sequential]:
    upconv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    return upconv, double_conv(out_channels + skip_channels, out_channels, DROPOUT)
