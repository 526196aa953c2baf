"""Smallest number of images with which a model can train: one where its deepest feature maps have more than
one pixel, else two, since BatchNorm cannot take the variance of one value."""

import copy

import torch

from flames_cli.learn.models.base import SegmentationModel

ALWAYS_ENOUGH = 4
"""Multiple of a model's smallest size from which its deepest feature maps have several pixels."""


def smallest_batch(model: SegmentationModel, size: int) -> int:
    """Return the smallest number of images of `size`×`size` pixels that `model` can train on in one step.

    It is found by a forward pass without numbers (torch's device meta), on a copy of the model.
    """
    if size >= ALWAYS_ENOUGH * model.min_size:
        return 1
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        shape_only = copy.deepcopy(model).to("meta").train()
        try:
            shape_only(torch.zeros(1, model.in_channels, size, size, device="meta"))
        except ValueError:  # "Expected more than 1 value per channel when training"
            return 2
    return 1
