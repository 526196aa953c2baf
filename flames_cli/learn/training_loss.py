"""What a client's steps minimise, by kind of model."""

import copy

import torch
from torch import Tensor

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.learn.losses import DICE_FACTOR, DICE_SMOOTH, dice_focal_loss, dice_loss, disentangled_loss
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.normalisation import frozen_statistics


class OtherStyle:
    """Another client's renderer: draws this client's anatomy as that client's scanner might.

    FedGS' second stage: the masks stay right, since the anatomy is kept and only its style is drawn anew,
    from z ~ N(0, I), to which training pulls every client's styles.
    """

    def __init__(self, model: SegmentationModel, weights: Weights) -> None:
        """`weights`: the entries of `model.renderer_entries()`.

        Raises:
            FlamesError: `model` has no renderer, or these are not its weights.
        """
        if not isinstance(model, DisentangledModel):
            raise FlamesError("only disentangled models can draw an image in another client's style")
        self._renderer = copy.deepcopy(model.renderer).requires_grad_(False)
        load_weights(self._renderer, {name.removeprefix("renderer."): a for name, a in weights.items()})
        self._style_dims = model.style_dims

    @torch.no_grad()
    def draw(self, content: Tensor) -> Tensor:
        """Images B×C×H×W of `content`, each in a style of its own."""
        z = torch.randn(len(content), self._style_dims).to(content)
        images: Tensor = self._renderer(content, z)
        return images


def training_loss(
    model: SegmentationModel,
    images: Tensor,
    masks: Tensor,
    dice_weight: float = 0.3,
    per_pixel_focal: bool = False,
    style: OtherStyle | None = None,
) -> Tensor:
    """The loss of one batch, a scalar: FLAMES' Dice and Focal, or that of disentangled models.

    With `style`, the Dice of the same anatomy drawn in that style is added, weighted as the other Dice.
    """
    if not isinstance(model, DisentangledModel):
        return dice_focal_loss(model(images), masks, dice_weight, per_pixel_focal)
    made = model.reconstruct(images)
    loss = disentangled_loss(made, images, masks)
    if style is None:
        return loss
    redrawn = style.draw(made.content.detach())
    with frozen_statistics(model):  # which are to be those of real images
        probabilities = model(redrawn)
    return loss + DICE_FACTOR * dice_loss(probabilities, masks, smooth=DICE_SMOOTH)
