"""Check of a plug-in's model on a few images of the run's size, before the run begins.

B batch, C channels, H W pixels.
"""

import copy

import torch
from torch import Tensor

from flames_cli.errors import FlamesError
from flames_cli.learn.devices import place
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.plugins import RAISED, describe_error

SAME = 1e-3
"""Largest difference of a probability of one image in two batches; rounding makes about 1e-6."""

MULTIPLES = (8, 16, 32, 64)
"""Multiples of which the side of an image is tried if the run's own does not fit the network."""


def probe_model(model: SegmentationModel, who: str, size: int, smallest_batch: int) -> None:
    """Check a plug-in's model on random images of `size`×`size` pixels, on the CPU.

    Args:
        model: the model; a copy of it is used.
        who: model and plug-in, for messages.
        size: side of the run's images, in pixels.
        smallest_batch: smallest number of images with which the model can train.

    Raises:
        FlamesError: the model fails, its probabilities have a wrong shape or are not finite or not in [0, 1],
            they depend on the other images of the batch, no gradient reaches a parameter, or random numbers
            do not come from torch's generator.
    """
    cpu = torch.device("cpu")
    probed = place(copy.deepcopy(model), cpu, "fp32")
    images = _images(2, model.in_channels, size)
    with torch.random.fork_rng(devices=[]):
        both = run_probe(probed.eval(), images, who)
        _check_probabilities(both, images, who)
        alone = run_probe(probed, images[1:], who)
        if not torch.allclose(both[1:], alone, rtol=0, atol=SAME):
            raise FlamesError(
                f"{who} gives an image other probabilities in another batch or at another call (they differ "
                f"by {float((both[1:] - alone).abs().max()):.2g}) in evaluation mode, expected the same; "
                "correct the plug-in"
            )
        _check_training(probed.train(), images[: max(smallest_batch, 2)], who)


def _check_training(probed: SegmentationModel, images: Tensor, who: str) -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(0)
        outputs.append(run_probe(probed, images, who, gradients=True))
    if not torch.equal(*outputs):
        raise FlamesError(
            f"{who} gives two different results for the same images and the same seed of torch in training "
            "mode, expected that its random numbers come from torch's generator alone and that it counts no "
            "calls; correct the plug-in"
        )
    if not outputs[0].requires_grad:
        raise FlamesError(
            f"{who} returns probabilities without a gradient in training mode, expected one for its "
            "parameters; leave detach and no_grad out"
        )
    outputs[0].mean().backward()  # type: ignore[no-untyped-call]
    slopes = [parameter.grad for parameter in probed.parameters() if parameter.grad is not None]
    if not all(slope.isfinite().all() for slope in slopes):
        raise FlamesError(
            f"{who} has a gradient that is not finite on random images, expected finite numbers; "
            "correct the plug-in"
        )


def _check_probabilities(found: Tensor, images: Tensor, who: str) -> None:
    expected = images[:, :1].shape
    if found.shape != expected or not found.is_floating_point():
        raise FlamesError(
            f"{who} maps images of shape {_shape(images)} to {found.dtype} of shape {_shape(found)}, "
            f"expected probabilities {_shape(images[:, :1])}; correct the plug-in"
        )
    if not ((found >= 0) & (found <= 1)).all():  # NaN is neither
        raise FlamesError(
            f"{who} gives values from {float(found.min()):g} to {float(found.max()):g} for random images, "
            "expected probabilities in [0, 1]; correct the plug-in"
        )


def run_probe(probed: SegmentationModel, images: Tensor, who: str, gradients: bool = False) -> Tensor:
    """Return the probabilities of `images`.

    Raises:
        FlamesError: the model fails, or returns no tensor.
    """
    try:
        with torch.set_grad_enabled(gradients):
            found: object = probed(images)
    except FlamesError:
        raise
    except RAISED as error:
        raise FlamesError(
            f"{who} fails on images of shape {_shape(images)} ({describe_error(error)}), expected "
            f"logits {_shape(images[:, :1])}{_find_advice(probed, images)}"
        ) from error
    if not isinstance(found, Tensor):
        raise FlamesError(f"{who} returns {type(found).__name__}, expected one tensor; correct the plug-in")
    return found


def _find_advice(probed: SegmentationModel, images: Tensor) -> str:
    """Return what a user can do about a model that fails on `images`."""
    if _works(copy.deepcopy(probed).to(memory_format=torch.contiguous_format), images):
        return "; it works without channels-last memory: set channels_last = False on the plug-in's callable"
    size = images.shape[-1]
    for multiple in MULTIPLES:
        side = -(-size // multiple) * multiple
        if side != size and _works(probed, _images(len(images), images.shape[1], side)):
            return f"; it works with {side}×{side} pixels: preprocess with --size {side}"
    return "; correct the plug-in, or change its --model-option"


def _works(probed: SegmentationModel, images: Tensor) -> bool:
    try:
        with torch.no_grad():
            copy.deepcopy(probed).eval()(images)
    except RAISED:
        return False
    return True


def _images(n: int, channels: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, size, size, generator=generator) * 2 - 1


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape))
