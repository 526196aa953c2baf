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
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr)
    training = _Training(model, optimiser, train, val, options, device, precision, on_step)
    received = training.validate()
    best: tuple[tuple[float, float], int, Weights, float, Validation | None] | None = None
    with _torch_randomness(options, device):
        for epoch in range(1, options.epochs + 1):
            loss = training.run_epoch(epoch)
            trained = training.validate()
            rank = (-trained.dice, trained.loss) if trained else (0.0, float(-epoch))
            if best is None or rank < best[0]:
                best = (rank, epoch, to_weights(model), loss, trained)
    if best is None:
        raise FlamesError(
            f"client {options.client} was asked to train {options.epochs} epochs, expected at least 1"
        )
    _, best_epoch, weights, train_loss, trained = best
    return TrainResult(weights, len(train), training.steps, best_epoch, train_loss, received, trained)


@contextmanager
def _torch_randomness(options: TrainOptions, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's own stream: seeded by scope here, as it was before afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(options.seed, "torch", *options.scope))
        yield


@dataclass(slots=True)
class _Training:
    """One client's round: what its epochs share, and how many steps they have made."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    train: ShardDataset
    val: ShardDataset
    options: TrainOptions
    device: torch.device
    precision: Precision
    on_step: OnStep | None
    done: int = 0

    @property
    def steps(self) -> int:
        """Of all epochs."""
        batches = in_batches(range(len(self.train)), self.options.batch_size, merge_lone=True)
        return len(batches) * self.options.epochs

    def validate(self) -> Validation | None:
        """Loss and Dice on the validation patients, where there are any."""
        if not len(self.val):
            return None
        options = self.options
        return validate(
            self.model,
            self.val,
            options.batch_size,
            self.device,
            self.precision,
            options.dice_weight,
            options.per_pixel_focal,
        )

    def run_epoch(self, epoch: int) -> float:
        """Train on every case once; the mean loss over them."""
        self.model.train()
        options, steps, total = self.options, self.steps, 0.0
        order = derive_rng(options.seed, "shuffle", *options.scope, epoch).permutation(len(self.train))

        def warp_of(index: int) -> Warp | None:
            if not options.augment:
                return None
            return draw_warp(derive_rng(options.seed, "augment", *options.scope, epoch, index))

        batches = iterate_batches(self.train, order.tolist(), options.batch_size, warp_of, merge_lone=True)
        for images, masks in batches:
            total += self._step(images.to(self.device), masks.to(self.device)) * len(images)
            self.done += 1
            if self.on_step:
                self.on_step(self.done, steps)
        return total / len(self.train)

    def _step(self, images: Tensor, masks: Tensor) -> float:
        """One step of Adam; the batch's loss."""
        options = self.options
        self.optimiser.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            layout = memory_format(self.device, self.precision)
            probabilities = self.model(images.contiguous(memory_format=layout))
        loss = dice_focal_loss(probabilities, masks, options.dice_weight, options.per_pixel_focal)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FlamesError(
                f"client {options.client}: the loss is {value} in round {options.round}; "
                f"lower --lr (now {options.lr:g})"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return value
