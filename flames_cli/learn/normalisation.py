"""BatchNorm's running statistics: estimating them for other weights, and freezing them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import statistics_of
from flames_cli.learn.batches import batches_on
from flames_cli.learn.data import ShardDataset
from flames_cli.learn.devices import Precision, autocast
from flames_cli.learn.models.arrays import load_weights, to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.models.norms import has_statistics

STATISTICS_IMAGES = 32
"""Number of training images on which the statistics of weights are estimated that are only validated."""


def estimate_statistics(
    model: SegmentationModel,
    weights: Weights,
    data: ShardDataset,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    order: Sequence[int] | None = None,
) -> Weights:
    """Return `weights` with the running means and variances that they have on `data`.

    One pass over the cases in `order` (None: all) without gradients. The result is the mean over batches of
    each batch's statistics (precise BatchNorm; Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021). The
    counters
    (num_batches_tracked) do not change. Weights of a model whose layers have no statistics, or frozen ones,
    are returned unchanged. Afterwards `model`, on `device`, has the returned weights.
    """
    load_weights(model, weights)
    if not _layers_with_statistics(model):
        return weights
    _estimate(model, data, batch_size, device, precision, order)
    return {**weights, **statistics_of(to_weights(model))}


@contextmanager
def own_statistics(
    model: SegmentationModel,
    data: ShardDataset,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    order: Sequence[int] | None = None,
) -> Iterator[None]:
    """Give `model`, inside the block, the statistics that its current weights have on `data`.

    They are those of `estimate_statistics`. After the block the model has its former buffers again.
    """
    layers = _layers_with_statistics(model)
    before = [[buffer.clone() for buffer in layer.buffers()] for layer in layers]
    if layers:
        _estimate(model, data, batch_size, device, precision, order)
    try:
        yield
    finally:
        for layer, former in zip(layers, before, strict=True):
            for buffer, value in zip(layer.buffers(), former, strict=True):
                buffer.copy_(value)


def _layers_with_statistics(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and has_statistics(module)]


def _estimate(
    model: SegmentationModel,
    data: ShardDataset,
    batch_size: int,
    device: torch.device,
    precision: Precision,
    order: Sequence[int] | None,
) -> None:
    cases = range(len(data)) if order is None else order
    batches = batches_on(device, precision, data, cases, batch_size, merge_lone=True)
    every_part, was_training = _AllParts(model), model.training
    model.train()
    with _averaging(_layers_with_statistics(model)), torch.no_grad(), autocast(device, precision):
        for images, _ in batches:
            every_part(images)
    model.train(was_training)


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Make the statistics, inside the block, the mean over the calls of their layer, from zero.

    torch does so for layers without a momentum (`update_bn`), but each of these then reads its counter, and
    waits for the device.
    """
    momenta, calls = [norm.momentum for norm in norms], dict.fromkeys(norms, 0)

    def count(norm: _BatchNorm, _: object) -> None:
        calls[norm] += 1
        norm.momentum = 1.0 / calls[norm]

    for norm in norms:
        norm.reset_running_stats()
    hooks = [norm.register_forward_pre_hook(count) for norm in norms]
    try:
        yield
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Freeze BatchNorm's running statistics inside the block; normalisation by batch works as usual."""
    norms = _layers_with_statistics(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class _AllParts(nn.Module):
    """Forward pass through every part of a model; prediction skips a disentangled model's style."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities, B×1×H×W."""
        if isinstance(self.model, DisentangledModel):
            return self.model.reconstruct(images).probabilities
        probabilities: Tensor = self.model(images)
        return probabilities
