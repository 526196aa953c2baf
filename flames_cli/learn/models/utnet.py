"""A U-Net with self-attention (Gao et al., "UTNet: A Hybrid Transformer Architecture", MICCAI 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flames_cli.errors import FlamesError
from flames_cli.learn.models.attention import AttentionBlock
from flames_cli.learn.models.base import check_positive, resize
from flames_cli.learn.models.unet import UNet, check_shape


class UTNet(UNet):
    """Our `UNet` with an attention block after every encoder and before every decoder but the finest.

    In the encoder a map looks at itself, in the decoder the skip at the deeper map. H and W from 2**depth up.

    What differs from the paper: no relative positions (which would fix the image's size); queries, keys and
    values by 1×1 convolutions alone, not depth-wise separable ones; the U-Net's own blocks and transposed
    convolutions in place of residual blocks and interpolation; and one logit under a sigmoid, which is what
    two classes under a softmax come to.

    Raises FlamesError for an option out of range, or `heads` that do not divide 2 · base_channels.
    """

    def __init__(self, in_channels: int = 1, base_channels: int = 32, depth: int = 4, heads: int = 4) -> None:
        check_shape("utnet", in_channels, base_channels, depth)
        check_heads("utnet", base_channels, heads)
        super().__init__(in_channels, base_channels, depth)
        widths = [base_channels * 2**level for level in range(1, depth + 1)]
        self.encoder_attention = nn.ModuleList(AttentionBlock(w, w, heads) for w in widths)
        self.decoder_attention = nn.ModuleList(AttentionBlock(w, 2 * w, heads) for w in widths[-2::-1])

    def encode(self, x: Tensor) -> list[Tensor]:
        """depth + 1 feature maps, the first at the size of `x`."""
        features = [self.encoders[0](x)]
        for encoder, attention in zip(self.encoders[1:], self.encoder_attention, strict=True):
            deeper = encoder(F.max_pool2d(features[-1], 2))
            features.append(attention(deeper, queries=deeper, source=deeper))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits B×1×H×W."""
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
    """Raises FlamesError naming `model` where `heads` do not divide the channels that attention works on."""
    check_positive(model, heads=heads)
    if 2 * base_channels % heads:
        raise FlamesError(
            f"heads = {heads} of model {model}: expected a divisor of 2 · base_channels = {2 * base_channels}"
        )
