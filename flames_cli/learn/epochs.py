"""The epochs of one client's round. Each uses every case once, in its own order and with its own warps."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from flames_cli.core.imaging.geometry import Warp
from flames_cli.core.rng import derive_rng, derive_seed
from flames_cli.errors import FlamesError
from flames_cli.learn.augment import draw_warp
from flames_cli.learn.augmentations.applying import make_change
from flames_cli.learn.batches import batches_on, is_async
from flames_cli.learn.data import ShardDataset, in_batches
from flames_cli.learn.devices import Precision, autocast
from flames_cli.learn.local_updates import LocalUpdate, batch_scale
from flames_cli.learn.loss_registry import DEFAULT_LOSS, Loss
from flames_cli.learn.losses import make_loss
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.normalisation import STATISTICS_IMAGES, own_statistics
from flames_cli.learn.predict import Validation, validate_by
from flames_cli.learn.steps import Plan, Steps, compiled_forward, learned, pays_to_compile
from flames_cli.learn.train_options import LocalRound
from flames_cli.learn.training_loss import OtherStyle, training_loss

OnStep = Callable[[int, int], None]
"""Function that is called after every step with the number of steps done and the total."""

STEPS_AHEAD = 2
"""Largest number of steps that wait at a GPU behind the one that it computes."""


@contextmanager
def torch_randomness(local: LocalRound, device: torch.device) -> Iterator[None]:
    """Seed torch's generators (for dropout) by the client and round, and restore their state afterwards."""
    seed = derive_seed(local.seed, "torch", *local.scope)
    if device.type == "cuda":
        # Only its own generator: threads may train on other devices.
        before = torch.cuda.get_rng_state(device)
        torch.cuda.default_generators[_index(device)].manual_seed(seed)
        try:
            yield
        finally:
            torch.cuda.set_rng_state(before, device)
        return
    # fork_rng does not restore the generator of Apple's GPUs, which manual_seed also seeds.
    apples = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            yield
    finally:
        if apples is not None:
            torch.mps.set_rng_state(apples)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass
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
    notes: list[str] = field(default_factory=list)
    """Sentences for the run's log."""

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
        """Train on every case once and return the mean loss over the cases.

        A GPU is asked for the losses after the last step, so that no step waits for it.
        """
        self.model.train()
        local, options = self.local, self.local.options
        steps, losses = self.steps, Losses(self.local, self.device)
        shuffled = derive_rng(local.seed, "shuffle", *local.scope, epoch).permutation(len(self.train))
        order = shuffled.tolist()

        def warp_of(index: int) -> Warp | None:
            if not options.augment:
                return None
            return draw_warp(derive_rng(local.seed, "augment", *local.scope, epoch, index))

        batches = batches_on(
            self.device,
            self.precision,
            self.train,
            order,
            options.batch_size,
            warp_of,
            merge_lone=True,
            change=make_change(local, epoch),
        )
        parts = in_batches(order, options.batch_size, merge_lone=True)
        queue, began = Queue(self.device), time.perf_counter()
        for (images, masks), cases in zip(batches, parts, strict=True):
            self._step(images, masks, cases, losses)
            queue.wait()
            self.done += 1
            if self.on_step:
                self.on_step(self.done, steps)
        loss = losses.mean()
        known, seconds = learned(self.model), (time.perf_counter() - began) / len(parts)
        known.seconds = min(known.seconds, seconds)
        return loss

    def _step(self, images: Tensor, masks: Tensor, cases: Sequence[int], losses: "Losses") -> None:
        """Make one step of the local update, and add its loss to `losses`."""
        losses.add(self._differentiate(images, masks), len(images))
        if self.local_update.uses_scale:
            self.local_update.scale = batch_scale(masks, cases, self.train)
        self.local_update.differentiate = partial(self._differentiate, images, masks)
        self.local_update.step()

    def _differentiate(self, images: Tensor, masks: Tensor) -> Tensor:
        """Leave the gradients of a batch, clipped if asked for, in the parameters; return the loss."""
        loss, limit = self.passes.differentiate(images, masks), self.local.options.grad_clip
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return loss

    @cached_property
    def criterion(self) -> Loss:
        """The loss of the client's options."""
        return make_loss(self.local.options)

    @cached_property
    def passes(self) -> Steps:
        """The forward and backward passes of the steps."""
        options = self.local.options
        known = learned(self.model)
        known.steps[self.local.client] = self.steps
        compiled = partial(self._loss, forward=compiled_forward()) if self._compiles() else None
        # The renderer of another client's style is another one in every round.
        loss = (options.loss, options.dice_weight, options.per_pixel_focal)
        kind = None if self.style else (self.precision, *loss, options.freeze)
        plan = Plan(kind, compiled, options.batch_size)
        return Steps(self.model, self._loss, plan, self.device, self.notes.append)

    def _compiles(self) -> bool:
        """Return whether the model is compiled: on request, or by default where it pays."""
        local = self.local
        if isinstance(self.model, DisentangledModel) or local.compile == "off":
            return False  # the parts of a disentangled model are not one forward pass
        rounds_left = max(local.rounds - local.round + 1, 1)
        pays = self.device.type == "cuda" and pays_to_compile(self.model, rounds_left)
        return local.compile == "on" or pays

    def _loss(
        self, images: Tensor, masks: Tensor, forward: Callable[[nn.Module, Tensor], Tensor] | None = None
    ) -> Tensor:
        with autocast(self.device, self.precision):
            if forward:
                return self.criterion(forward(self.model, images), masks)
            return training_loss(self.model, images, masks, self.criterion, self.style)


class Losses:
    """Losses of an epoch's steps; a loss that is not finite ends the training."""

    def __init__(self, local: LocalRound, device: torch.device) -> None:
        self._local = local
        self._waits = not is_async(device)
        self._losses: list[Tensor] = []
        self._values: list[float] = []
        self._sizes: list[int] = []

    def add(self, loss: Tensor, n_images: int) -> None:
        """Add the loss of a batch of `n_images`; only a CPU is asked for its value already now.

        Raises:
            FlamesError: the loss is not finite.
        """
        self._sizes.append(n_images)
        if self._waits:
            self._values.append(self._checked(float(loss)))
        else:
            self._losses.append(loss)

    def mean(self) -> float:
        """Return the mean loss over the images.

        Raises:
            FlamesError: a loss was not finite.
        """
        if self._losses:
            self._values = [self._checked(value) for value in torch.stack(self._losses).tolist()]
        total = 0.0
        for value, n in zip(self._values, self._sizes, strict=True):
            total += value * n  # not `sum`, whose rounding depends on the version of Python
        return total / sum(self._sizes)

    def _checked(self, value: float) -> float:
        if not math.isfinite(value):
            options = self._local.options
            name = "" if options.loss == DEFAULT_LOSS else f" '{options.loss}'"
            raise FlamesError(
                f"client {self._local.client}: the loss{name} is {value} in round {self._local.round}; "
                f"lower --lr (now {options.lr:g})"
            )
        return value


class Queue:
    """Steps that were given to a GPU and may not be done yet."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: deque[torch.cuda.Event] = deque()

    def wait(self) -> None:
        """Wait until at most STEPS_AHEAD of the steps so far are not done.

        The device always has work, and progress, its estimate and the memory of waiting batches stay right.
        """
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)
        if len(self._events) > STEPS_AHEAD:
            self._events.popleft().synchronize()
