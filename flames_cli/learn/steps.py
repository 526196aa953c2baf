"""One step's forward and backward pass: in parts where memory is short, recorded and compiled where it pays.

A recording is a CUDA graph: the work of a pass, which the device then repeats without Python. The launches of
a small model's kernels take longer than the kernels.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from flames_cli.errors import FlamesError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function that returns the loss of images and masks, with its graph."""

Say = Callable[[str], None]
"""Function that notes a sentence for the run's log."""

COMPILING_PAYS_S = 300.0
"""Time that the steps left must take at least, in seconds, for compilation by default. It takes 40 s with 16
cores, longer with fewer, and makes steps of densenet-unet 1.5 times as fast (docs/performance.md)."""

WARM_STEPS = 3
"""Number of steps of one kind before they are recorded: the first ones choose kernels and allocate memory."""


@dataclass(slots=True)
class Recording:
    """A recorded forward and backward pass, with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    masks: Tensor
    loss: Tensor
    gradients: list[Tensor | None]


@dataclass(slots=True)
class Learned:
    """Recordings of a model's steps, and what they need, for all later rounds and clients."""

    seen: dict[object, int] = field(default_factory=dict)
    """Number of steps by kind, until they are recorded."""
    recordings: dict[object, Recording | None] = field(default_factory=dict)
    """Recordings by kind; None if one could not be made."""
    pool: Any = None
    """Memory that all recordings use in turn."""
    records: bool = True
    """False after the memory was too small for recordings."""
    part: int | None = None
    """Largest number of images that fit in the memory; None: no batch was too large."""
    compiles: bool = True
    """False after compilation failed."""
    is_compiled: bool = False
    seconds: float = math.inf
    """Shortest time of a step so far, as the mean of an epoch."""
    steps: dict[str, int] = field(default_factory=dict)
    """Steps of a round, by client."""

    def has_recordings_on(self, device: torch.device) -> bool:
        """Return whether any recording reads the memory of `device`."""
        return any(one is not None and one.images.device == device for one in self.recordings.values())


_RECORDING = Lock()
"""Recording empties the memory that torch keeps on all devices: threads of several devices take turns."""

_LEARNING = Lock()
"""Threads of several devices add models while others go through all of them."""

_LEARNED: WeakKeyDictionary[nn.Module, Learned] = WeakKeyDictionary()


def learned(model: nn.Module) -> Learned:
    """Return what the steps of `model` have shown so far."""
    with _LEARNING:
        return _LEARNED.setdefault(model, Learned())


def pays_to_compile(model: nn.Module, rounds_left: int) -> bool:
    """Return whether the clients' steps in `rounds_left` rounds take so long that compiling saves time."""
    known = learned(model)
    seconds = known.seconds * sum(known.steps.values()) * rounds_left
    return math.isfinite(known.seconds) and seconds > COMPILING_PAYS_S


@lru_cache(maxsize=1)
def compiled_forward() -> Callable[[nn.Module, Tensor], Tensor]:
    """Return the forward pass of any model, compiled by torch at its first call for each model and shape."""
    compiled: Callable[[nn.Module, Tensor], Tensor] = torch.compile(_forward, dynamic=False)
    return compiled


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = model(images)
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """Ways in which the steps of a round may be made faster."""

    kind: object = None
    """Value that is equal for rounds whose loss does the same work; None: steps are never recorded."""
    compiled: Loss | None = None
    """The loss by a compiled model; None: the model is not compiled."""
    batch_size: int = 0
    """Number of images for which the compiled loss is used: compiling for another number takes as long."""


class Steps:
    """Forward and backward passes of one model in one round; gradients are left in its parameters."""

    def __init__(self, model: nn.Module, loss: Loss, plan: Plan, device: torch.device, say: Say) -> None:
        """Prepare the passes.

        Args:
            model: the model; its parameters keep their place in memory as long as it is in use.
            loss: the loss; it contains the forward pass.
            plan: ways to make steps faster.
            device: device of the model.
            say: called with a sentence if steps are made in another way than planned.
        """
        self._model = model
        self._parameters = list(model.parameters())
        self._loss = loss
        self._plan = plan
        self._device = device
        self._say = say
        self._learned = learned(model)

    def differentiate(self, images: Tensor, masks: Tensor) -> Tensor:
        """Compute the gradients of the mean loss of a batch, and return the loss, detached.

        If the device's memory is too small, the batch is divided in equal parts whose gradients are summed:
        the step stays the same, but BatchNorm's statistics and the Dice loss are those of each part.

        Raises:
            FlamesError: the memory is too small for a single image.
        """
        recording = self._recording(images, masks)
        if recording:
            return _replay(recording, self._parameters, images, masks)
        before = _copy_buffers(self._model) if self._device.type == "cuda" else None
        while True:
            try:
                return self._in_parts(images, masks)
            except torch.OutOfMemoryError:
                largest = min(self._learned.part or len(images), len(images))
            # Here the error is gone, and with it the tensors of the pass that failed.
            self._make_room(largest)
            if before:
                _restore_buffers(self._model, before)

    def _in_parts(self, images: Tensor, masks: Tensor) -> Tensor:
        """Do the pass on as many images at a time as fit."""
        self._clear_gradients()
        n = math.ceil(len(images) / (self._learned.part or len(images)))
        if n == 1:
            return self._compute(images, masks)
        total = torch.zeros((), device=images.device)
        for part, truth in zip(images.tensor_split(n), masks.tensor_split(n), strict=True):
            total += _backward(self._loss(part, truth) * (len(part) / len(images)))
        return total

    def _clear_gradients(self) -> None:
        for parameter in self._parameters:  # a search through a small model's modules takes 2 % of its step
            parameter.grad = None

    def _compute(self, images: Tensor, masks: Tensor) -> Tensor:
        """Do the pass on all images, by the compiled model if there is one for their number."""
        compiled = self._compiled(images)
        if compiled is None:
            return _backward(self._loss(images, masks))
        began = time.perf_counter()
        try:
            loss = _backward(compiled(images, masks))
            if not self._learned.is_compiled:
                self._learned.is_compiled = True
                self._say(f"the model was compiled for faster steps ({time.perf_counter() - began:.0f} s)")
            return loss
        except (torch.OutOfMemoryError, FlamesError):
            raise
        except Exception as error:  # compilers fail in many ways, and the model works without them
            self._learned.compiles = False
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            self._say(f"the model is not compiled ({type(error).__name__}: {reason}); it trains without")
        self._clear_gradients()
        return _backward(self._loss(images, masks))

    def _compiled(self, images: Tensor) -> Loss | None:
        fits = len(images) == self._plan.batch_size and self._learned.compiles
        return self._plan.compiled if fits else None

    def _make_room(self, largest: int) -> None:
        """Free the memory of recordings; if there are none, divide batches of `largest` images by two.

        Raises:
            FlamesError: a batch of one image cannot be divided.
        """
        self._clear_gradients()
        if forget_recordings(self._device):
            return
        if largest == 1:
            raise FlamesError(
                f"the memory of device {self._device.type} is too small for a step on one image; close other "
                "programs that use the device, take a smaller --model, or smaller images, or --device cpu"
            )
        self._learned.part = math.ceil(largest / 2)
        self._say(
            f"the device's memory is too small for {largest} images: steps use {self._learned.part} "
            "at a time and sum their gradients (BatchNorm and Dice are computed for each part)"
        )

    def _recording(self, images: Tensor, masks: Tensor) -> Recording | None:
        """Return the recording of this kind of step, which is made after WARM_STEPS of them."""
        known, kind = self._learned, self._plan.kind
        if self._device.type != "cuda" or kind is None or not known.records or known.part:
            return None
        key = (kind, self._compiled(images) is not None, tuple(images.shape), images.stride())
        if key not in known.recordings:
            known.seen[key] = known.seen.get(key, 0) + 1
            if known.seen[key] <= WARM_STEPS:
                return None
            known.recordings[key] = self._record(images, masks)
        return known.recordings[key]

    def _record(self, images: Tensor, masks: Tensor) -> Recording | None:
        """Record a pass, which is not executed; None if the device cannot, or has no memory for it."""
        self._clear_gradients()
        own = images.clone(), masks.clone()
        graph = torch.cuda.CUDAGraph()
        if self._learned.pool is None:
            self._learned.pool = torch.cuda.graph_pool_handle()
        loss = self._compiled(images) or self._loss
        try:
            # Other threads may use other devices meanwhile.
            with (
                _RECORDING,
                torch.cuda.graph(graph, pool=self._learned.pool, capture_error_mode="thread_local"),
            ):
                value = _backward(loss(*own))
        except (RuntimeError, FlamesError):  # OutOfMemoryError is one; a plug-in's failure is a FlamesError
            self._clear_gradients()
            return None
        gradients = [parameter.grad for parameter in self._parameters]
        return Recording(graph, *own, value, gradients)


def forget_recordings(device: torch.device) -> bool:
    """Free the memory of all recordings on `device`, and make no others; return whether there were any.

    Those on other devices stay: their threads may be using them.
    """
    with _LEARNING:
        every = list(_LEARNED.values())
    found = [known for known in every if known.has_recordings_on(device)]
    for known in found:
        known.recordings.clear()
        known.pool, known.records = None, False
    if found:
        gc.collect()
    return bool(found)


def _backward(loss: Tensor) -> Tensor:
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _replay(
    recording: Recording, parameters: Sequence[nn.Parameter], images: Tensor, masks: Tensor
) -> Tensor:
    recording.images.copy_(images)
    recording.masks.copy_(masks)
    recording.graph.replay()
    for parameter, gradient in zip(parameters, recording.gradients, strict=True):
        parameter.grad = gradient
    return recording.loss.clone()


def _copy_buffers(model: nn.Module) -> list[Tensor]:
    """Return copies of the buffers, which a forward pass changes."""
    return [buffer.clone() for buffer in model.buffers()]


def _restore_buffers(model: nn.Module, before: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
