"""Networks of segmentation-models-pytorch as models of FLAMES; needs the package segmentation-models-pytorch.

flames federate --plugin examples/plugins/smp_models.py --model smp-unet

The sides of the images are multiples of 32 pixels: `flames preprocess --size 224`, for example. Initial
weights of an encoder are a file here (`flames federate --encoder-weights FILE`): no code downloads any.
"""

import segmentation_models_pytorch as smp
from torch import nn


def unet(in_channels: int, encoder_depth: int = 5) -> nn.Module:
    """Return the U-Net on a ResNet-18.

    Args:
        in_channels: channels of the images, 1 or 3.
        encoder_depth: number of halvings, 3 to 5.
    """
    widths = (256, 128, 64, 32, 16)
    return smp.Unet(
        "resnet18",
        encoder_depth=encoder_depth,
        encoder_weights=None,
        decoder_channels=widths[-encoder_depth:],
        in_channels=in_channels,
        classes=1,
    )


unet.summary = "U-Net of segmentation-models-pytorch on a ResNet-18"
unet.min_size = 32

MODELS = {"smp-unet": unet}
