"""Networks of MONAI as models of FLAMES; needs the package monai.

flames federate --plugin examples/plugins/monai_models.py --model monai-basic-unet
flames federate --plugin examples/plugins/monai_models.py --model monai-unetr --model-option img_size=240
"""

from monai.networks.nets import UNETR, BasicUNet
from torch import nn


def basic_unet(in_channels: int, features: int = 32, dropout: float = 0.0) -> nn.Module:
    """Return MONAI's BasicUNet, a U-Net of four levels with instance normalisation.

    Args:
        in_channels: channels of the images, 1 or 3.
        features: channels of the first level.
        dropout: probability of dropout, in [0, 1).
    """
    widths = (features, features, 2 * features, 4 * features, 8 * features, features)
    return BasicUNet(
        spatial_dims=2, in_channels=in_channels, out_channels=1, features=widths, dropout=dropout
    )


def unetr(
    in_channels: int, img_size: int = 240, feature_size: int = 16, hidden_size: int = 384, num_heads: int = 6
) -> nn.Module:
    """Return MONAI's UNETR, a U-Net whose encoder is a vision transformer of 12 layers.

    Args:
        in_channels: channels of the images, 1 or 3.
        img_size: side of the images, a multiple of 16: the number of pixels of `flames preprocess --size`.
        feature_size: channels of the finest level of the decoder.
        hidden_size: dimensions of a patch's embedding, a multiple of num_heads.
        num_heads: number of attention heads.
    """
    return UNETR(
        in_channels=in_channels,
        out_channels=1,
        img_size=img_size,
        feature_size=feature_size,
        hidden_size=hidden_size,
        mlp_dim=4 * hidden_size,
        num_heads=num_heads,
        spatial_dims=2,
    )


basic_unet.summary = "MONAI's BasicUNet"
basic_unet.training_defaults = {"lr": 1e-3, "batch_size": 16}
unetr.summary = "MONAI's UNETR: a vision transformer and a decoder of a U-Net"
unetr.training_defaults = {"lr": 1e-4, "batch_size": 16}

MODELS = {"monai-basic-unet": basic_unet, "monai-unetr": unetr}
