"""Losses of plug-ins: they get the tensors of our own losses, and what they return is checked.

B batch, H W pixels.
"""

import math

import torch
from torch import Tensor

from flames_cli.errors import FlamesError
from flames_cli.learn.loss_registry import LOSSES, Loss
from flames_cli.plugins import RAISED, describe_error

EXPECTED = "expected a finite scalar tensor with a gradient"
TO_DO = "correct the plug-in, or leave its --loss out"


def checked(loss: Loss, who: str) -> Loss:
    """Return a loss of a plug-in that computes in float32 with autocast off, and whose result is checked.

    Whether the result is finite is not asked here, since a GPU would have to be waited for: it is asked with
    the losses of the epoch, and before the run begins (`probe_loss`).

    Args:
        loss: function of the plug-in.
        who: loss and plug-in, for messages.
    """

    def call(probabilities: Tensor, masks: Tensor) -> Tensor:
        with torch.autocast(probabilities.device.type, enabled=False):
            try:
                found = loss(probabilities.float(), masks.float())
            except torch.OutOfMemoryError:
                raise  # the batch is then divided
            except RAISED as error:
                shape = "×".join(map(str, probabilities.shape))
                raise FlamesError(
                    f"{who} fails on a batch of {shape} ({describe_error(error)}), {EXPECTED}; {TO_DO}"
                ) from error
        if fault := _find_fault(found, probabilities):
            raise FlamesError(f"{who} returns {fault}, {EXPECTED}; {TO_DO}")
        return found

    return call


def _find_fault(found: object, probabilities: Tensor) -> str:
    """Return what is wrong with the result of a loss, apart from its value; else ""."""
    if not isinstance(found, Tensor):
        return type(found).__name__
    if found.ndim:
        return f"a tensor of shape {tuple(found.shape)}"
    if not found.is_floating_point():
        return f"a scalar of type {found.dtype}"
    if probabilities.requires_grad and torch.is_grad_enabled() and not found.requires_grad:
        return "a scalar without a gradient"
    return ""


def probe_loss(name: str, size: int) -> None:
    """Check a plug-in's loss on two images of `size`×`size` pixels, with a tumour and without, before a run.

    Raises:
        FlamesError: the loss is not known, fails, returns no finite scalar with a finite gradient, or two
            different ones for the same batch.
    """
    loss, origin = LOSSES.look_up(name), LOSSES.origin(name)
    if origin is None:
        return
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(2, 1, size, size, generator=generator)
    empty = torch.zeros_like(random)
    some = empty.clone()
    some[0, :, : size // 2, : size // 2] = 1
    for masks, what in ((some, "masks with a tumour"), (empty, "masks without a tumour")):
        values = []
        for _ in range(2):
            probabilities = random.clone().requires_grad_()
            value = loss(probabilities, masks.clone())
            (slope,) = torch.autograd.grad(value, probabilities, allow_unused=True)
            values.append(float(value.detach()))
            if fault := _find_value_fault(values[0], slope):
                raise FlamesError(
                    f"loss '{name}' of the plug-in {origin} gives {fault} for {what}, {EXPECTED}; {TO_DO}"
                )
        if values[0] != values[1]:
            raise FlamesError(
                f"loss '{name}' of the plug-in {origin} gives {values[0]:g} and {values[1]:g} for the same "
                f"batch, expected a function of its two tensors alone; {TO_DO}"
            )


def _find_value_fault(value: float, slope: Tensor | None) -> str:
    """Return what is wrong with the value of a loss and its gradient; else ""."""
    if not math.isfinite(value):
        return f"{value:g}"
    if slope is None:
        return "no gradient"
    return "" if slope.isfinite().all() else "a gradient that is not finite"
