"""Local training: some epochs over a client's own cases, the best one kept by its validation patients."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flames_cli.arrays import Weights
from flames_cli.core.geometry import Warp
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.errors import FlamesError
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import ShardDataset, in_batches, iterate_batches
from flames_cli.learn.devices import Precision, autocast, memory_format
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.predict import Validation, validate

OnStep = Callable[[int, int], None]
"""Called after every step with steps done and steps in all."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a client trains in one round; the server sends it."""

    seed: int
    round: int
    client: str
    epochs: int = 1
    batch_size: int = 64
    lr: float = 1e-4
    dice_weight: float = 0.3
    per_pixel_focal: bool = False
    augment: bool = True

    @property
    def scope(self) -> tuple[str | int, ...]:
        """Of everything that is random in this client's round."""
        return (self.client, self.round)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The weights of the best epoch, and how training went."""

    weights: Weights
    n_examples: int
    n_steps: int
    best_epoch: int
    """From 1; the last one where there is nothing to validate on."""
    train_loss: float
    """Mean over the cases of the best epoch."""
    received: Validation | None
    """Of the model as it came, before training; None without validation patients."""
    trained: Validation | None
    """Of the best epoch."""


def train_epochs(
    model: nn.Module,
    train: ShardDataset,
    val: ShardDataset,
    options: TrainOptions,
    device: torch.device,
    precision: Precision,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Train `model` (already on `device`, changed in place) with a fresh Adam.

    The best epoch has the highest mean Dice on `val`, then the lowest loss; test sets are never seen here.
    The same options, weights and cases give the same result on a CPU.

    Raises:
        FlamesError: no training cases, or a loss that is not finite.
    """
    if not len(train):
        raise FlamesError(
            f"client {options.client} has no training cases; partition again with another --split"
        )
    received = _validate(model, val, options, device, precision)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr)
    steps_an_epoch = len(in_batches(range(len(train)), options.batch_size, merge_lone=True))
    total = steps_an_epoch * options.epochs
    best: tuple[tuple[float, float], int, Weights, float, Validation | None] | None = None
    with _torch_randomness(options, device):
        for epoch in range(1, options.epochs + 1):
            done = (epoch - 1) * steps_an_epoch
            loss = _train_epoch(
                model, optimiser, train, options, epoch, device, precision, (done, total), on_step
            )
            trained = _validate(model, val, options, device, precision)
            rank = (-trained.dice, trained.loss) if trained else (0.0, float(-epoch))
            if best is None or rank < best[0]:
                best = (rank, epoch, to_weights(model), loss, trained)
    if best is None:
        raise FlamesError(
            f"client {options.client} was asked to train {options.epochs} epochs, expected at least 1"
        )
    _, best_epoch, weights, train_loss, trained = best
    return TrainResult(weights, len(train), total, best_epoch, train_loss, received, trained)


@contextmanager
def _torch_randomness(options: TrainOptions, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's own stream: seeded by scope here, as it was before afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(options.seed, "torch", *options.scope))
        yield


def _validate(
    model: nn.Module, val: ShardDataset, options: TrainOptions, device: torch.device, precision: Precision
) -> Validation | None:
    if not len(val):
        return None
    return validate(
        model, val, options.batch_size, device, precision, options.dice_weight, options.per_pixel_focal
    )


def _train_epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    train: ShardDataset,
    options: TrainOptions,
    epoch: int,
    device: torch.device,
    precision: Precision,
    steps: tuple[int, int],
    on_step: OnStep | None,
) -> float:
    """One epoch; the mean loss over its cases."""
    model.train()
    order = derive_rng(options.seed, "shuffle", *options.scope, epoch).permutation(len(train)).tolist()

    def warp_of(index: int) -> Warp | None:
        if not options.augment:
            return None
        return draw_warp(derive_rng(options.seed, "augment", *options.scope, epoch, index))

    total, (done, all_steps) = 0.0, steps
    for images, masks in iterate_batches(train, order, options.batch_size, warp_of, merge_lone=True):
        total += _step(model, optimiser, images.to(device), masks.to(device), options, precision) * len(
            images
        )
        done += 1
        if on_step:
            on_step(done, all_steps)
    return total / len(train)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    masks: Tensor,
    options: TrainOptions,
    precision: Precision,
) -> float:
    """One step of Adam; the batch's loss."""
    optimiser.zero_grad(set_to_none=True)
    with autocast(images.device, precision):
        probabilities = model(images.contiguous(memory_format=memory_format(images.device, precision)))
    loss = dice_focal_loss(probabilities, masks, options.dice_weight, options.per_pixel_focal)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FlamesError(
            f"client {options.client}: the loss is {value} in round {options.round}; "
            f"lower --lr (now {options.lr:g})"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return value
