"""The epochs of one client's round. Each uses every case once, in its own order and with its own warps."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from flames_cli.core.imaging.geometry import Warp
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.errors import FlamesError
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.data import ShardDataset, in_batches, iterate_batches
from flames_cli.learn.devices import Precision, autocast, memory_format
from flames_cli.learn.local_updates import LocalUpdate, batch_scale
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.normalisation import own_statistics
from flames_cli.learn.predict import Validation, validate_by
from flames_cli.learn.train_options import LocalRound
from flames_cli.learn.training_loss import OtherStyle, training_loss

OnStep = Callable[[int, int], None]
"""Function that is called after every step with the number of steps done and the total."""

STATISTICS_IMAGES = 64
"""Number of training images from which the statistics of validated weights are estimated."""


@contextmanager
def torch_randomness(local: LocalRound, device: torch.device) -> Iterator[None]:
    """Seed torch's generators (for dropout) by the client and round, and restore their state afterwards."""
    devices = [device] if device.type == "cuda" else []
    # fork_rng does not restore the generator of Apple's GPUs, which manual_seed also seeds.
    apples = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive_seed(local.seed, "torch", *local.scope))
            yield
    finally:
        if apples is not None:
            torch.mps.set_rng_state(apples)


@dataclass(slots=True)
class Epochs:
    """One client's round: what its epochs share, and the number of steps done."""

    model: SegmentationModel
    local_update: LocalUpdate
    train: ShardDataset
    val: ShardDataset
    local: LocalRound
    device: torch.device
    precision: Precision
    on_step: OnStep | None
    style: OtherStyle | None
    done: int = 0

    @property
    def steps(self) -> int:
        """Total number of steps of all epochs."""
        batches = in_batches(range(len(self.train)), self.local.options.batch_size, merge_lone=True)
        return len(batches) * self.local.options.local_epochs

    def validate(self) -> Validation | None:
        """Return loss and Dice on the validation patients; None without validation patients.

        With `precise_norm` the model is validated with statistics of its current weights. Neither its
        buffers nor torch's generators change, so that validation has no effect on training.
        """
        if not len(self.val):
            return None
        options = self.local.options
        with self._own_statistics() if options.precise_norm else nullcontext():
            return validate_by(self.model, self.val, options, self.device, self.precision)

    @contextmanager
    def _own_statistics(self) -> Iterator[None]:
        """Give the model, inside the block, its statistics on some of the client's training images."""
        local = self.local
        order = derive_rng(local.seed, "statistics", *local.scope).permutation(len(self.train))
        images = sorted(order[:STATISTICS_IMAGES].tolist())
        with (
            torch_randomness(local, self.device),
            own_statistics(
                self.model, self.train, local.options.batch_size, self.device, self.precision, images
            ),
        ):
            yield

    def run_epoch(self, epoch: int) -> float:
        """Train on every case once and return the mean loss over the cases."""
        self.model.train()
        local, options = self.local, self.local.options
        steps, total = self.steps, 0.0
        shuffled = derive_rng(local.seed, "shuffle", *local.scope, epoch).permutation(len(self.train))
        order = shuffled.tolist()

        def warp_of(index: int) -> Warp | None:
            if not options.augment:
                return None
            return draw_warp(derive_rng(local.seed, "augment", *local.scope, epoch, index))

        batches = iterate_batches(self.train, order, options.batch_size, warp_of, merge_lone=True)
        parts = in_batches(order, options.batch_size, merge_lone=True)
        for (images, masks), cases in zip(batches, parts, strict=True):
            total += self._step(images.to(self.device), masks.to(self.device), cases) * len(images)
            self.done += 1
            if self.on_step:
                self.on_step(self.done, steps)
        return total / len(self.train)

    def _step(self, images: Tensor, masks: Tensor, cases: Sequence[int]) -> float:
        """Make one step of the local update and return the loss of the batch."""
        options = self.local.options
        self.local_update.optimiser.zero_grad(set_to_none=True)
        layout = memory_format(self.device, self.precision, self.model)
        with autocast(self.device, self.precision):
            loss = training_loss(
                self.model,
                images.contiguous(memory_format=layout),
                masks,
                options.dice_weight,
                options.per_pixel_focal,
                self.style,
            )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FlamesError(
                f"client {self.local.client}: the loss is {value} in round {self.local.round}; "
                f"lower --lr (now {options.lr:g})"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if options.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.grad_clip)
        if self.local_update.uses_scale:
            self.local_update.scale = batch_scale(masks, cases, self.train)
        self.local_update.step()
        return value
