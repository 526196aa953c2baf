"""Models that tell anatomy from a scanner's style: SDNet (Chartsias et al., 2019) with AdaIN.

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
"""Which attributes of a DisentangledModel a federation may share, and which may stay at the client."""

SEGMENTOR_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """All that the loss of a disentangled model looks at; float32 throughout."""

    probabilities: Tensor
    """Of tumour, B×1×H×W, as `forward` gives them."""
    content: Tensor
    """The anatomy, B×C×H×W in [-1, 1]."""
    mean: Tensor
    """Of z, B×D."""
    log_var: Tensor
    """Of z, B×D."""
    z: Tensor
    """The style that the image was rebuilt with, B×D."""
    rebuilt: Tensor
    """The image from content and z, B×in_channels×H×W in [-1, 1]."""
    z_again: Tensor
    """Mean of z by the style encoder on the rebuilt image, B×D."""


class DisentangledModel(SegmentationModel):
    """Anatomy ("content") and style of an image; the tumour is found in the anatomy alone.

    Parts, as attributes: `content` (a U-Net with content_channels maps in place of its logit; tanh follows),
    `segmentor` (maps to a logit), `style` (image to the distribution of z), `renderer` (maps and z to image).

    What differs from SDNet's public code with AdaIN: the style encoder averages over places, where flattening
    would fix the image's size, and has no BatchNorm on its 32 features, so that a batch of one trains (from
    17×17 pixels up: less leaves one place after four halvings); the renderer scales by 1 + s, s of any sign,
    and has ReLUs between its blocks; one logit under a sigmoid is what two classes under a softmax come to.
    """

    def __init__(self, content: UNet, content_channels: int, style_dims: int) -> None:
        super().__init__(content.in_channels, content.min_size)
        self.style_dims = style_dims
        self.content = content
        # Its logit is never asked for: these maps take the place of it.
        self.content.head = nn.Conv2d(content.head.in_channels, content_channels, kernel_size=1)
        self.segmentor = nn.Sequential(
            double_conv(content_channels, SEGMENTOR_WIDTH, dropout=0.0),
            nn.Conv2d(SEGMENTOR_WIDTH, 1, kernel_size=1),
        )
        self.style = StyleEncoder(self.in_channels, style_dims)
        self.renderer = Renderer(self.in_channels, content_channels, style_dims)

    def style_entries(self) -> frozenset[str]:
        """Names of the state dict's entries in STYLE_PARTS, buffers included."""
        return self._entries(*STYLE_PARTS)

    def renderer_entries(self) -> frozenset[str]:
        """Names of the state dict's entries of the renderer, buffers included."""
        return self._entries("renderer")

    def encode(self, x: Tensor) -> list[Tensor]:
        """The content net's feature maps, the first at the size of `x`."""
        return self.content.encode(x)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits B×1×H×W."""
        return self._logits(self._content(features))

    def reconstruct(self, images: Tensor) -> Reconstruction:
        """Tumour, anatomy, style and the image again, of `images` B×in_channels×H×W in [-1, 1].

        In training mode z is drawn as mean + exp(log_var / 2)·noise, by torch's own generator; in evaluation
        mode it is the mean. Raises as `forward`.
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
        """Images B×in_channels×H×W float32 in [-1, 1], of content B×C×H×W and z B×D."""
        images: Tensor = self.renderer(content, z)
        return images

    def _content(self, features: list[Tensor]) -> Tensor:
        return self.content.decode(features).float().tanh()

    def _logits(self, content: Tensor) -> Tensor:
        logits: Tensor = self.segmentor(content)
        return logits

    def _entries(self, *parts: str) -> frozenset[str]:
        return frozenset(name for name in self.state_dict() if name.partition(".")[0] in parts)
