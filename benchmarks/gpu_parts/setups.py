"""The setups whose speed is measured: precision, memory layout, compilation and optimiser."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from flames_cli.learn.devices import Precision, autocast
from flames_cli.learn.training_loss import training_loss
from gpu_parts.inputs import Job, draw_batch
from gpu_parts.timing import backend

CUDA_GRAPHS = "reduce-overhead"
"""torch.compile's mode that records CUDA graphs."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings with which a model is trained and predicts."""

    name: str
    precision: Precision = "fp32"
    tf32: bool = False
    channels_last: bool = False
    benchmark: bool = False
    """True if cuDNN measures its algorithms first."""
    compiled: str = ""
    """torch.compile's mode; empty: not compiled."""
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
COMPILED = (
    Setup("the same, torch.compile", "bf16", False, True, True, "default", (False, True)),
    Setup("the same, CUDA graphs", "bf16", False, True, True, CUDA_GRAPHS, (True,)),
)


class Trainer:
    """One model with one batch on the device, which makes training steps and predictions."""

    def __init__(self, job: Job, setup: Setup, device: torch.device) -> None:
        layout = torch.channels_last if setup.channels_last else torch.contiguous_format
        self.model = job.build().to(device).to(memory_format=layout)
        images, self.masks = draw_batch(job.size, job.batch, device)
        self.images = images.contiguous(memory_format=layout)
        self._setup, self._device = setup, device
        self._compile()
        self.use_adam(fused=False)

    def _compile(self) -> None:
        mode = self._setup.compiled
        if not mode:
            return
        if self._device.type == "cuda":
            self.model.compile(mode=mode, dynamic=False)
        else:  # without a C++ compiler, and in no time
            self.model.compile(backend="eager", dynamic=False)

    def use_adam(self, fused: bool) -> None:
        """Begin with a fresh optimiser."""
        chosen = {"fused": True} if fused else {}
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-4, **chosen)

    def forward(self) -> Tensor:
        """Return the loss of the batch."""
        if self._setup.compiled == CUDA_GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()
        with autocast(self._device, self._setup.precision):
            return training_loss(self.model, self.images, self.masks)

    def step(self) -> None:
        """Make one training step; nothing of it waits for the device."""
        self.optimiser.zero_grad(set_to_none=True)
        self.forward().backward()
        self.optimiser.step()

    def predict(self) -> None:
        """Ask the model, which is to be in evaluation mode."""
        if self._setup.compiled == CUDA_GRAPHS:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.inference_mode(), autocast(self._device, self._setup.precision):
            self.model(self.images)
