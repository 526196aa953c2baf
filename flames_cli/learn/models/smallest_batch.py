"""Smallest number of images with which a model can train: one where its deepest feature maps have more than
one pixel, else two, since BatchNorm cannot take the variance of one value."""

import copy

import torch

from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.logits_model import LogitsModel

ONE_VALUE = "Expected more than 1 value per channel when training"
"""Beginning of the message of torch's BatchNorm."""

ALWAYS_ENOUGH = 4
"""Multiple of a model's smallest size from which its deepest feature maps have several pixels."""


def smallest_batch(model: SegmentationModel, size: int) -> int:
    """Return the smallest number of images of `size`×`size` pixels that `model` can train on in one step.

    It is found by a forward pass without numbers (torch's device meta), on a copy of the model. Networks of
    plug-ins for which there is no such pass, since they read numbers, get one on the CPU.
    """
    if size >= ALWAYS_ENOUGH * model.min_size and not isinstance(model, LogitsModel):
        return 1
    for device in ("meta", "cpu"):
        copied = copy.deepcopy(model).to(device).train()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                copied(torch.zeros(1, model.in_channels, size, size, device=device))
                return 1
            except ValueError as error:
                if ONE_VALUE in str(error):
                    return 2
            except Exception:
                # Only a plug-in's network can fail otherwise; `probe_model` then says how.
                continue
    return 1
