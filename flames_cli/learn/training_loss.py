"""The loss that a client's steps minimise; it depends on the kind of model."""

import copy

import torch
from torch import Tensor

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.learn.loss_registry import Loss
from flames_cli.learn.losses import DICE_FACTOR, DICE_SMOOTH, dice_focal_loss, dice_loss, disentangled_loss
from flames_cli.learn.models.arrays import load_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.normalisation import frozen_statistics


class OtherStyle:
    """Another client's renderer, which draws this client's anatomy in the style of that client's scanner.

    This is FedGS' second stage. The masks stay correct because the anatomy does not change. The new style is
    drawn from z ~ N(0, I), the distribution to which training pulls every client's styles.
    """

    def __init__(self, model: SegmentationModel, weights: Weights) -> None:
        """Copy the renderer of `model` and load `weights`, the entries of `model.renderer_entries()`.

        Raises:
            FlamesError: `model` has no renderer, or the weights do not fit it.
        """
        if not isinstance(model, DisentangledModel):
            raise FlamesError(
                "this model cannot draw an image in another client's style, expected a disentangled one; "
                "use --model sd-utnet or sdnet"
            )
        self._renderer = copy.deepcopy(model.renderer).requires_grad_(False)
        load_weights(self._renderer, {name.removeprefix("renderer."): a for name, a in weights.items()})
        self._style_dims = model.style_dims

    @torch.no_grad()
    def draw(self, content: Tensor) -> Tensor:
        """Draw images B×C×H×W of `content`, each in its own random style."""
        z = torch.randn(len(content), self._style_dims, device=content.device).to(content)
        images: Tensor = self._renderer(content, z)
        return images


def training_loss(
    model: SegmentationModel,
    images: Tensor,
    masks: Tensor,
    loss: Loss = dice_focal_loss,
    style: OtherStyle | None = None,
) -> Tensor:
    """Return the loss of one batch, a scalar: `loss`, or the own one of disentangled models.

    With `style`, the Dice of the same anatomy drawn in that style is added, with the same factor as the other
    Dice term.
    """
    if not isinstance(model, DisentangledModel):
        return loss(model(images), masks)
    made = model.reconstruct(images)
    own = disentangled_loss(made, images, masks)
    if style is None:
        return own
    redrawn = style.draw(made.content.detach())
    with frozen_statistics(model):  # the running statistics must be those of real images
        probabilities = model(redrawn)
    return own + DICE_FACTOR * dice_loss(probabilities, masks, smooth=DICE_SMOOTH)
