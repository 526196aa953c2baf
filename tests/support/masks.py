"""Masks of a model that is no file and no run."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from flames_cli.arrays import Mask
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.predict import MaskRule, predict_probabilities


def predict_masks(
    model: nn.Module,
    dataset: ShardDataset,
    order: Sequence[int] | None = None,
    rule: MaskRule | None = None,
) -> Iterator[Mask]:
    """Yield the mask of each case in `order` (None: all) on the CPU, two images in a step."""
    how, cpu = rule or MaskRule(), torch.device("cpu")
    for probabilities, _ in predict_probabilities(model, dataset, 2, cpu, "fp32", order, how.tta):
        yield from (how.mask(one) for one in probabilities[:, 0].numpy())
