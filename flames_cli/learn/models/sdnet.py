"""The disentangled models SDNet (on a plain U-Net) and SD-UTNet (on a UTNet)."""

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import check_positive
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.models.unet import UNet, check_shape
from flames_cli.learn.models.utnet import UTNet, check_heads

MAX_CODE = 1024
"""Largest number of content channels and of style dimensions. It is far above useful values."""


class SDNet(DisentangledModel):
    """Disentangled model with a `UNet` for the content; H and W at least 2**depth.

    Raises:
        FlamesError: an option is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 16,
        depth: int = 4,
        content_channels: int = 8,
        style_dims: int = 8,
    ) -> None:
        check_shape("sdnet", in_channels, base_channels, depth)
        _check_code("sdnet", content_channels=content_channels, style_dims=style_dims)
        super().__init__(UNet(in_channels, base_channels, depth), content_channels, style_dims)


class SDUTNet(DisentangledModel):
    """Disentangled model with a `UTNet` for the content, and its options; H and W at least 2**depth.

    Raises:
        FlamesError: an option is out of range, or `heads` do not divide 2 · base_channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 32,
        depth: int = 4,
        heads: int = 4,
        content_channels: int = 8,
        style_dims: int = 8,
    ) -> None:
        check_shape("sd-utnet", in_channels, base_channels, depth)
        check_heads("sd-utnet", base_channels, heads)
        _check_code("sd-utnet", content_channels=content_channels, style_dims=style_dims)
        super().__init__(UTNet(in_channels, base_channels, depth, heads), content_channels, style_dims)


def _check_code(model: str, **options: int) -> None:
    check_positive(model, **options)
    for name, value in options.items():
        if value > MAX_CODE:
            raise FlamesError(
                f"{name} = {value} of model {model}: expected at most {MAX_CODE}; change the model option"
            )
