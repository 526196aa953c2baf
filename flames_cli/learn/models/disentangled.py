"""Models that separate anatomy from a scanner's style: SDNet (Chartsias et al., 2019) with AdaIN.

B batch, C content channels, D style dimensions, H W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flames_cli.learn.models.base import SegmentationModel, double_conv
from flames_cli.learn.models.style import Renderer, StyleEncoder
from flames_cli.learn.models.unet import UNet

CONTENT_PARTS = ("content", "segmentor")
STYLE_PARTS = ("style", "renderer")
"""Attributes of a DisentangledModel: CONTENT_PARTS are always shared, STYLE_PARTS may stay at the client."""

SEGMENTOR_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The tensors from which the loss of a disentangled model is computed, all float32."""

    probabilities: Tensor
    """Tumour probabilities, B×1×H×W, equal to those of `forward`."""
    content: Tensor
    """The anatomy, B×C×H×W in [-1, 1]."""
    mean: Tensor
    """Mean of z, B×D."""
    log_var: Tensor
    """Log-variance of z, B×D."""
    z: Tensor
    """The style with which the image was rebuilt, B×D."""
    rebuilt: Tensor
    """The image from content and z, B×in_channels×H×W in [-1, 1]."""
    z_again: Tensor
    """Mean of z that the style encoder finds in the rebuilt image, B×D."""


class DisentangledModel(SegmentationModel):
    """A model of an image's anatomy ("content") and style; it finds the tumour in the anatomy alone.

    Its parts are attributes: `content` (a U-Net with content_channels maps in place of its logit, followed by
    tanh), `segmentor` (maps to a logit), `style` (image to the distribution of z) and `renderer` (maps and z
    to an image).

    Differences from SDNet's public code with AdaIN:
    - The style encoder averages over pixels, since flattening would fix the image's size. It has no BatchNorm
      on its 32 features, so that a batch of one image can be trained (from 17×17 pixels up: smaller images
      have one pixel after four halvings).
    - The renderer scales by 1 + s, where s has any sign, and has ReLUs between its blocks.
    - There is one logit under a sigmoid, which is equivalent to two classes under a softmax.
    """

    def __init__(self, content: UNet, content_channels: int, style_dims: int) -> None:
        super().__init__(content.in_channels, content.min_size)
        self.style_dims = style_dims
        self.content = content
        # The U-Net's own logit is not needed: the content maps replace it.
        self.content.head = nn.Conv2d(content.head.in_channels, content_channels, kernel_size=1)
        self.segmentor = nn.Sequential(
            double_conv(content_channels, SEGMENTOR_WIDTH, dropout=0.0),
            nn.Conv2d(SEGMENTOR_WIDTH, 1, kernel_size=1),
        )
        self.style = StyleEncoder(self.in_channels, style_dims)
        self.renderer = Renderer(self.in_channels, content_channels, style_dims)

    def encoder_entries(self) -> frozenset[str]:
        """Return the names of the entries of the content U-Net's encoder.

        The style encoder is not among them: a style is the client's own, and a new client has to learn it.
        """
        return frozenset(f"content.{name}" for name in self.content.encoder_entries())

    def style_entries(self) -> frozenset[str]:
        """Return the names of the state-dict entries in STYLE_PARTS, buffers included."""
        return self.entries_below(*STYLE_PARTS)

    def renderer_entries(self) -> frozenset[str]:
        """Return the names of the state-dict entries of the renderer, buffers included."""
        return self.entries_below("renderer")

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps of the content U-Net, the first at the size of `x`."""
        return self.content.encode(x)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×H×W."""
        return self._logits(self._content(features))

    def reconstruct(self, images: Tensor) -> Reconstruction:
        """Return tumour, anatomy, style and the rebuilt image of `images` B×in_channels×H×W in [-1, 1].

        In training mode z is drawn as mean + exp(log_var / 2)·noise, by torch's own generator; in evaluation
        mode z is the mean. Same errors as `forward`.
        """
        self._check(images)
        content = self._content(self.encode(images))
        mean, log_var = self.style(images)
        z = mean + torch.exp(log_var / 2) * torch.randn_like(mean) if self.training else mean
        rebuilt = self.render(content, z)
        z_again, _ = self.style(rebuilt)
        probabilities = self._logits(content).float().sigmoid()
        return Reconstruction(probabilities, content, mean, log_var, z, rebuilt, z_again)

    def render(self, content: Tensor, z: Tensor) -> Tensor:
        """Draw images B×in_channels×H×W float32 in [-1, 1] from content B×C×H×W and z B×D."""
        images: Tensor = self.renderer(content, z)
        return images

    def _content(self, features: list[Tensor]) -> Tensor:
        return self.content.decode(features).float().tanh()

    def _logits(self, content: Tensor) -> Tensor:
        logits: Tensor = self.segmentor(content)
        return logits
