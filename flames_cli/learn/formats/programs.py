"""A model as a module that other programs can use: images in [0, 1] in, probabilities out.

B batch, C channels (1 grey, 3 colour), S side of the images, H W pixels.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from flames_cli.arrays import Weights
from flames_cli.learn.data import MEAN, STD
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.models.arrays import load_weights
from flames_cli.store.models import ModelInfo

IMAGE, PROBABILITY = "image", "probability"
"""Names of a program's input and output."""

BATCH = 2
"""Number of images with which a program is traced; torch makes a constant of a batch of one image."""


class Normalised(nn.Module):
    """A segmentation model with its normalisation: images B×C×S×S in [0, 1] to probabilities B×1×S×S."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability of tumour in [0, 1], B×1×S×S float32."""
        probability: Tensor = self.model((image - MEAN) / STD)
        return probability


def build_program(info: ModelInfo, weights: Weights) -> Normalised:
    """Return a model with its weights on the CPU, in evaluation mode.

    Raises:
        FlamesError: the weights do not fit the architecture.
    """
    architecture = info.architecture
    options = options_for(info.input.channels, architecture.options)
    model = build_model(architecture.model, seed=0, norm=architecture.norm, **options)
    load_weights(model, weights)
    return Normalised(model).eval()


def example_images(info: ModelInfo) -> Tensor:
    """Return BATCH black images of the model's size, with which it is traced."""
    return torch.zeros(BATCH, info.input.channels, info.input.size, info.input.size)


def trace(program: nn.Module, image: Tensor, dynamic: Mapping[int, Dim]) -> ExportedProgram:
    """Return `program` as torch.export sees it, without the paths of this machine.

    Args:
        program: a module with one input, in evaluation mode.
        image: an example of its input.
        dynamic: axes of the input whose length may change, by index.

    Raises:
        RuntimeError and others: torch cannot trace it.
    """
    with quiet():
        exported = torch.export.export(program, (image,), dynamic_shapes={IMAGE: dict(dynamic)})
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # it contains the folder of the user
    return exported


def batch_axis() -> dict[int, Dim]:
    """Return the axis of the batch, which may have any length."""
    return {0: Dim("batch", min=1)}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of torch's exporters, which are about their own code."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def reason_of(error: Exception) -> str:
    """Return the first line of an error of torch's exporters, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
