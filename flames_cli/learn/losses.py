"""Segmentation losses of probabilities; lower is better. B batch, H W pixels.

All losses are computed in float32 with autocast off: half precision rounds Dice's sums over 10^5 pixels, and
torch raises an error for binary cross-entropy under CUDA autocast.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from flames_cli.learn.loss_registry import DEFAULT_LOSS, LOSSES, Loss
from flames_cli.learn.models.disentangled import Reconstruction
from flames_cli.learn.train_options import TrainOptions

DICE_FACTOR = 10.0
DICE_SMOOTH = 0.1
KL_FACTOR = 0.01
STYLE_FACTOR = 1.0
IMAGE_FACTOR = 1.0
"""Weights of the terms of `disentangled_loss`, as FedGS' authors chose them."""


def make_loss(options: TrainOptions) -> Loss:
    """Return the loss of a client's options.

    Raises:
        FlamesError: it is not known, or its plug-in cannot be used.
    """
    if options.loss != DEFAULT_LOSS:
        return LOSSES.look_up(options.loss)
    return partial(dice_focal_loss, dice_weight=options.dice_weight, per_pixel_focal=options.per_pixel_focal)


def dice_loss(pred: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Return the soft Dice loss of the flattened batch: 1 - (2·Σpt + smooth) / (Σp + Σt + smooth).

    The formula is that of Milletari et al., "V-Net", 2016, without the squares. With `smooth`, two empty
    masks have a loss of 0.

    Args:
        pred: B×1×H×W probabilities.
        target: the same shape, 0 or 1, any dtype.
        smooth: added to numerator and denominator.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    with _full_precision(pred):
        p, t = _as_float32(pred, target)
        overlap = (p * t).sum()
        return 1 - (2 * overlap + smooth) / (p.sum() + t.sum() + smooth)


def focal_loss(
    pred: Tensor, target: Tensor, alpha: float = 0.8, gamma: float = 2.0, per_pixel: bool = False
) -> Tensor:
    """Return the Focal loss alpha·(1 - exp(-bce))^gamma·bce, a scalar >= 0.

    Args:
        pred: B×1×H×W probabilities.
        target: the same shape, 0 or 1, any dtype.
        alpha: factor of both classes.
        gamma: exponent that reduces the loss of easy images (or pixels).
        per_pixel: False: `bce` is the batch's mean binary cross-entropy, which is FLAMES' form. True: the
            formula is applied to each pixel and the results are averaged, as in Lin et al., "Focal Loss for
            Dense Object Detection", 2017 (but with the same alpha for both classes).

    Raises:
        ValueError: the shapes differ.
    """
    with _full_precision(pred):
        p, t = _as_float32(pred, target)
        # torch does not accept NaN here (on CUDA an assertion ends the process), so NaN is added back below.
        bce = F.binary_cross_entropy(p.nan_to_num(), t, reduction="none" if per_pixel else "mean")
        bce = bce + 0 * p.sum()
        return (alpha * (1 - torch.exp(-bce)) ** gamma * bce).mean()


def dice_focal_loss(
    pred: Tensor, target: Tensor, dice_weight: float = 0.3, per_pixel_focal: bool = False
) -> Tensor:
    """Return FLAMES' loss dice_weight·Dice + (1 - dice_weight)·Focal, a scalar.

    Args:
        pred: B×1×H×W probabilities.
        target: the same shape, 0 or 1, any dtype.
        dice_weight: in [0, 1].
        per_pixel_focal: see `per_pixel` of `focal_loss`.

    Raises:
        ValueError: the shapes differ.
    """
    focal = focal_loss(pred, target, per_pixel=per_pixel_focal)
    return dice_weight * dice_loss(pred, target) + (1 - dice_weight) * focal


def kl_loss(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of N(mean, exp(log_var)) from N(0, I), a scalar >= 0.

    The formula is ½·Σ(exp(log_var) + mean² - 1 - log_var), summed over the dimensions and averaged over the
    batch (Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B). mean, log_var: B×D.

    Raises:
        ValueError: the shapes differ.
    """
    with _full_precision(mean):
        m, v = _as_float32(mean, log_var)
        return 0.5 * (v.exp() + m**2 - 1 - v).sum(dim=1).mean()


def disentangled_loss(reconstruction: Reconstruction, images: Tensor, masks: Tensor) -> Tensor:
    """Return FedGS' loss of a disentangled model, a scalar.

    The formula is 10·Dice + 0.01·KL + L1(z_again, z) + L1(rebuilt, image). Dice is soft, with DICE_SMOOTH;
    each L1 is a mean over all elements.

    Args:
        reconstruction: the result of `DisentangledModel.reconstruct`.
        images: the images that were reconstructed, B×C×H×W in [-1, 1].
        masks: B×1×H×W, 0 or 1, any dtype.

    Raises:
        ValueError: shapes differ.
    """
    return (
        DICE_FACTOR * dice_loss(reconstruction.probabilities, masks, smooth=DICE_SMOOTH)
        + KL_FACTOR * kl_loss(reconstruction.mean, reconstruction.log_var)
        + STYLE_FACTOR * _l1(reconstruction.z_again, reconstruction.z)
        + IMAGE_FACTOR * _l1(reconstruction.rebuilt, images)
    )


def _l1(pred: Tensor, target: Tensor) -> Tensor:
    with _full_precision(pred):
        return F.l1_loss(*_as_float32(pred, target))


def _full_precision(pred: Tensor) -> torch.autocast:
    return torch.autocast(pred.device.type, enabled=False)


def _as_float32(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    # Checked here because multiplication would silently broadcast B×H×W against B×1×H×W.
    if pred.shape != target.shape:
        raise ValueError(
            f"got a prediction of shape {tuple(pred.shape)} and a target of shape {tuple(target.shape)}, "
            "expected equal shapes; use B×1×H×W for a mask"
        )
    return pred.float(), target.float()
