"""A U-Net with self-attention (Gao et al., "UTNet: A Hybrid Transformer Architecture", MICCAI 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.errors import FlamesError
from flames_cli.learn.models.attention import AttentionBlock
from flames_cli.learn.models.base import check_positive, resize
from flames_cli.learn.models.unet import UNet, check_shape


class UTNet(UNet):
    """`UNet` with an attention block after every encoder and before every decoder except the finest.

    The encoders use self-attention; in the decoders the skip attends to the deeper map. H and W are at least
    2**depth.

    Differences from the paper:
    - There are no relative positions, which would fix the image's size.
    - Queries, keys and values are computed by 1×1 convolutions, not by depth-wise separable ones.
    - The U-Net's own blocks and transposed convolutions replace residual blocks and interpolation.
    - There is one logit under a sigmoid, which is equivalent to two classes under a softmax.

    Raises:
        FlamesError: an option is out of range, or `heads` do not divide 2 · base_channels.
    """

    def __init__(self, in_channels: int = 1, base_channels: int = 32, depth: int = 4, heads: int = 4) -> None:
        check_shape("utnet", in_channels, base_channels, depth)
        check_heads("utnet", base_channels, heads)
        super().__init__(in_channels, base_channels, depth)
        widths = [base_channels * 2**level for level in range(1, depth + 1)]
        self.encoder_attention = nn.ModuleList(AttentionBlock(w, w, heads) for w in widths)
        self.decoder_attention = nn.ModuleList(AttentionBlock(w, 2 * w, heads) for w in widths[-2::-1])

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return depth + 1 feature maps, the first at the size of `x`."""
        features = [self.encoders[0](x)]
        for encoder, attention in zip(self.encoders[1:], self.encoder_attention, strict=True):
            deeper = encoder(F.max_pool2d(features[-1], 2))
            features.append(attention(deeper, queries=deeper, source=deeper))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return logits B×1×H×W."""
        *skips, x = features
        attentions = [*self.decoder_attention, None]
        stages = zip(self.upconvs, self.decoders, attentions, reversed(skips), strict=True)
        for upconv, decoder, attention, skip in stages:
            raised = resize(upconv(x), like=skip)
            if attention is not None:
                raised = attention(raised, queries=skip, source=x)
            x = decoder(torch.cat([raised, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def check_heads(model: str, base_channels: int, heads: int) -> None:
    """Raise FlamesError, which names `model`, if `heads` do not divide the attention's channels."""
    check_positive(model, heads=heads)
    if 2 * base_channels % heads:
        raise FlamesError(
            f"heads = {heads} of model {model}: expected a divisor of 2 · base_channels = {2 * base_channels}"
            "; change the model options"
        )
