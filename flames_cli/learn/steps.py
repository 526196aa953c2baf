"""One step's forward and backward pass: in parts where memory is short, as a CUDA graph where it repeats.

A CUDA graph is the recorded work of a pass, which the device then repeats without Python: the launches of a
small model's kernels take longer than the kernels.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from flames_cli.errors import FlamesError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Function that returns the loss of images and masks, with its graph."""

Say = Callable[[str], None]
"""Function that notes a sentence for the run's log."""

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
    """Recordings of a model's steps, and the size that memory allows, for all later rounds and clients."""

    seen: dict[object, int] = field(default_factory=dict)
    """Number of steps by kind, until they are recorded."""
    recordings: dict[object, Recording] = field(default_factory=dict)
    records: bool = True
    """False after a recording failed."""
    part: int | None = None
    """Largest number of images that fit in the memory; None: no batch was too large."""


_RECORDING = Lock()
"""Recording empties the memory that torch keeps on all devices: threads of several devices take turns."""

_LEARNED: WeakKeyDictionary[nn.Module, Learned] = WeakKeyDictionary()


class Steps:
    """Forward and backward passes of one model in one round; gradients are left in its parameters."""

    def __init__(self, model: nn.Module, loss: Loss, kind: object, device: torch.device, say: Say) -> None:
        """Prepare the passes.

        Args:
            model: the model; its parameters keep their place in memory as long as it is in use.
            loss: the loss; it contains the forward pass.
            kind: value that is equal for rounds whose loss does the same work; None: never record it.
            device: device of the model.
            say: called with one sentence when a batch has to be divided.
        """
        self._model = model
        self._parameters = list(model.parameters())
        self._loss = loss
        self._kind = kind
        self._device = device
        self._say = say
        self._learned = _LEARNED.setdefault(model, Learned())

    def differentiate(self, images: Tensor, masks: Tensor) -> Tensor:
        """Compute the gradients of the mean loss of a batch, and return the loss, detached.

        If the device's memory is too small, the batch is divided in equal parts whose gradients are summed:
        the step stays the same, but BatchNorm's statistics and the Dice loss are those of each part.

        Raises:
            FlamesError: the memory is too small for a single image.
        """
        recording = self._recording(images, masks)
        if recording:
            return _replay(recording, self._model, images, masks)
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
        for parameter in self._parameters:  # a search through a small model's modules takes 3 % of its step
            parameter.grad = None
        n = ceil(len(images) / (self._learned.part or len(images)))
        if n == 1:
            return _backward(self._loss(images, masks))
        total = torch.zeros((), device=images.device)
        for part, truth in zip(images.tensor_split(n), masks.tensor_split(n), strict=True):
            total += _backward(self._loss(part, truth) * (len(part) / len(images)))
        return total

    def _make_room(self, largest: int) -> None:
        """Free the memory of recordings; if there are none, divide batches of `largest` images by two.

        Raises:
            FlamesError: a batch of one image cannot be divided.
        """
        self._model.zero_grad(set_to_none=True)
        if forget_recordings():
            return
        if largest == 1:
            raise FlamesError(
                f"the memory of device {self._device.type} is too small for a step on one image; close other "
                "programs that use the device, take a smaller --model, or smaller images, or --device cpu"
            )
        self._learned.part = ceil(largest / 2)
        self._say(
            f"the device's memory is too small for {largest} images: steps use {self._learned.part} "
            "at a time and sum their gradients (BatchNorm and Dice are computed for each part)"
        )

    def _recording(self, images: Tensor, masks: Tensor) -> Recording | None:
        """Return the recording of this kind of step, which is made after WARM_STEPS of them."""
        learned = self._learned
        if self._device.type != "cuda" or self._kind is None or not learned.records or learned.part:
            return None
        key = (self._kind, tuple(images.shape), images.stride())
        if key not in learned.recordings:
            learned.seen[key] = learned.seen.get(key, 0) + 1
            if learned.seen[key] <= WARM_STEPS:
                return None
            made = self._record(images, masks)
            if made is None:
                learned.records = False
                return None
            learned.recordings[key] = made
        return learned.recordings[key]

    def _record(self, images: Tensor, masks: Tensor) -> Recording | None:
        """Record a pass, which is not executed; None if the device cannot, or has no memory for it."""
        self._model.zero_grad(set_to_none=True)
        own = images.clone(), masks.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use other devices meanwhile.
            with _RECORDING, torch.cuda.graph(graph, capture_error_mode="thread_local"):
                loss = _backward(self._loss(*own))
        except RuntimeError:  # OutOfMemoryError is one
            self._model.zero_grad(set_to_none=True)
            return None
        gradients = [parameter.grad for parameter in self._model.parameters()]
        return Recording(graph, *own, loss, gradients)


def forget_recordings() -> bool:
    """Free the memory of all recordings, and make no others; return whether there were any."""
    found = [learned for learned in _LEARNED.values() if learned.recordings]
    for learned in found:
        learned.recordings.clear()
        learned.records = False
    if found:
        gc.collect()
    return bool(found)


def _backward(loss: Tensor) -> Tensor:
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _replay(recording: Recording, model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    recording.images.copy_(images)
    recording.masks.copy_(masks)
    recording.graph.replay()
    for parameter, gradient in zip(model.parameters(), recording.gradients, strict=True):
        parameter.grad = gradient
    return recording.loss.clone()


def _copy_buffers(model: nn.Module) -> list[Tensor]:
    """Return copies of the buffers, which a forward pass changes."""
    return [buffer.clone() for buffer in model.buffers()]


def _restore_buffers(model: nn.Module, before: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
