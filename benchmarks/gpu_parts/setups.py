"""The setups whose speed is measured: precision, memory layout, compilation and optimiser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from flames_cli.learn.devices import Precision, autocast
from flames_cli.learn.losses import dice_focal_loss
from flames_cli.learn.steps import Plan, Steps, compiled_forward
from gpu_parts.inputs import Job, draw_batch
from gpu_parts.timing import backend


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings with which a model is trained and predicts."""

    name: str
    precision: Precision = "fp32"
    tf32: bool = False
    channels_last: bool = False
    benchmark: bool = False
    """True if cuDNN measures its algorithms first."""
    recorded: bool = False
    """True if steps are recorded as a CUDA graph, as the toolkit does."""
    compiled: bool = False
    """True if torch.compile makes the kernels."""
    fused: tuple[bool, ...] = (False,)
    """Adam as it is by default, in one fused kernel, or first the one and then the other."""

    @property
    def roof(self) -> str:
        """Name the product that this setup's arithmetic is compared with."""
        return "bf16" if self.precision == "bf16" else "tf32" if self.tf32 else "fp32"

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Set what torch keeps for the whole process; as before afterwards."""
        with backend(self.tf32, self.benchmark):
            yield


EAGER = (
    Setup("fp32"),
    Setup("fp32, tf32", tf32=True),
    Setup("bf16", "bf16"),
    Setup("bf16 channels-last", "bf16", channels_last=True, fused=(False, True)),
    Setup("bf16 channels-last, cudnn.benchmark", "bf16", channels_last=True, benchmark=True, fused=(True,)),
)
RECORDED = (
    Setup("recorded steps", "bf16", channels_last=True, recorded=True, fused=(True,)),
    Setup("recorded steps, cudnn.benchmark", "bf16", False, True, True, recorded=True, fused=(True,)),
)
COMPILED = (
    Setup("torch.compile, recorded steps", "bf16", False, True, True, True, compiled=True, fused=(True,)),
)


class Trainer:
    """One model with one batch on the device, which makes training steps and predictions."""

    def __init__(self, job: Job, setup: Setup, device: torch.device) -> None:
        layout = torch.channels_last if setup.channels_last else torch.contiguous_format
        self.model = job.build().to(device).to(memory_format=layout)
        images, self.masks = draw_batch(job.size, job.batch, device)
        self.images = images.contiguous(memory_format=layout)
        self._setup, self._device = setup, device
        self._forward = self._compiled() if setup.compiled else self.model
        plan = Plan(setup if setup.recorded else None)
        self._steps = Steps(self.model, self._loss, plan, device, print)
        self.use_adam(fused=False)

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        if self._device.type == "cuda":
            return partial(compiled_forward(), self.model)
        # The backend "eager" works without a C++ compiler, and in no time.
        found: Callable[[Tensor], Tensor] = torch.compile(self.model, dynamic=False, backend="eager")
        return found

    def use_adam(self, fused: bool) -> None:
        """Begin with a fresh optimiser."""
        chosen = {"fused": True} if fused else {}
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-4, **chosen)

    def _loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of the batch."""
        with autocast(self._device, self._setup.precision):
            return dice_focal_loss(self._forward(images), masks)

    def step(self) -> None:
        """Make one training step; nothing of it waits for the device."""
        self._steps.differentiate(self.images, self.masks)
        self.optimiser.step()

    def predict(self) -> None:
        """Ask the model, which is to be in evaluation mode."""
        with torch.inference_mode(), autocast(self._device, self._setup.precision):
            self.model(self.images)
