"""Table of a model's architecture: its stages, with the shape of their output and their parameters."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flames_cli.learn.models import MODELS, build_model, options_for
from flames_cli.learn.models.attention import AttentionBlock
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.disentangled import DisentangledModel
from flames_cli.learn.models.norms import is_norm
from flames_cli.learn.models.probing import run_probe
from flames_cli.learn.models.style import Renderer, StyleEncoder
from flames_cli.learn.models.unet import UNet


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a model, in the order of computation."""

    name: str
    """Name in the model's state dict, such as encoder3; input and output have no entries there."""
    layers: str
    """Layers of the stage in words, such as `conv 7×7, stride 2`."""
    shape: tuple[int, ...]
    """Shape of its output for one image: channels, rows, columns; features only, after a linear layer."""
    parameters: int
    """Number of trained parameters, without the statistics of BatchNorm."""


@dataclass(frozen=True, slots=True)
class ArchitectureTable:
    """A model, its options, and its stages."""

    model: str
    norm: str
    options: dict[str, Any]
    """Options of the model, in_channels included."""
    size: int
    """Side of the images, in pixels."""
    stages: tuple[Stage, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of all stages."""
        return sum(stage.parameters for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return the table for --json."""
        return {**asdict(self), "parameters": self.parameters}


def describe_architecture(
    model: str, size: int, channels: int = 1, norm: str = "batch", options: Mapping[str, Any] | None = None
) -> ArchitectureTable:
    """Return the stages of a model for images of `size`×`size` pixels.

    A built-in model is built without memory for its weights, so that a large one takes no longer than a small
    one; not every network of a plug-in can be.

    Args:
        model: a name in MODELS.
        size: side of the images, in pixels.
        channels: channels of the images, 1 or 3.
        norm: normalisation layers, batch, group or frozen.
        options: options of the model.

    Raises:
        FlamesError: an unknown model, a wrong option, images that are too small, or a plug-in's model fails.
    """
    every = options_for(channels, options or {})
    origin = MODELS.origin(model)
    with torch.device("cpu" if origin else "meta"):
        built = build_model(model, seed=0, norm=norm, **every).eval()
        images = torch.zeros(1, channels, size, size)
    if origin:
        run_probe(built, images, f"model '{model}' of the plug-in {origin}")
    named = dict(_stages(built.network))
    shapes = _trace(built, named, images)
    stages = [Stage("input", "image, from [0, 1] to [-1, 1]", (channels, size, size), 0)]
    stages += [Stage(name, _words(named[name]), shape, _count(named[name])) for name, shape in shapes.items()]
    stages.append(Stage("output", "resized to the image, sigmoid", (1, size, size), 0))
    return ArchitectureTable(model, norm, every, size, tuple(stages))


def _stages(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the stages of a model by name: the parts of lists and of inner U-Nets each on their own."""
    for name, part in module.named_children():
        if isinstance(part, nn.ModuleList | UNet):
            yield from _stages(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _trace(
    model: SegmentationModel, stages: Mapping[str, nn.Module], images: Tensor
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each stage's first output, in the order of computation."""
    shapes: dict[str, tuple[int, ...]] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # A list is that of the features of an encoder, of which the last one is the deepest.
            several = isinstance(output, tuple | list) and output
            first = output[0 if isinstance(output, tuple) else -1] if several else output
            if isinstance(first, Tensor):
                shapes.setdefault(name, tuple(first.shape[1:]))

        return module.register_forward_hook(hook)

    hooks = [watch(name, module) for name, module in stages.items()]
    try:
        with torch.no_grad():
            # The style of a disentangled model has no part in its masks.
            model.reconstruct(images) if isinstance(model, DisentangledModel) else model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _words(module: nn.Module) -> str:
    """Return the layers of a stage in words."""
    match type(module).__name__, module:
        case "_DenseBlock", _:  # the classes of torchvision's DenseNet are private
            return f"dense block, {len(list(module.children()))} layers"
        case "_Transition", _:
            return "norm, ReLU, conv 1×1, mean of 2×2"
        case _, nn.ConvTranspose2d():
            return f"transposed {_convolution(module)}"
        case _, nn.Conv2d():
            return _convolution(module)
        case _, AttentionBlock():
            return f"attention, {module.attention.heads} heads"
        case _, StyleEncoder():
            return f"{len(module.blocks)} × (conv 3×3, stride 2, norm, ReLU), mean, linear"
        case _, Renderer():
            return f"{len(module.convs)} × (conv 3×3, AdaIN, ReLU), conv 3×3, tanh"
        case _, nn.Sequential():
            return _sequence(module)
    return type(module).__name__


def _convolution(module: nn.Conv2d | nn.ConvTranspose2d) -> str:
    side, stride = module.kernel_size[0], module.stride[0]
    return f"conv {side}×{side}" + (f", stride {stride}" if stride > 1 else "")


def _sequence(module: nn.Sequential) -> str:
    """Return the layers of a sequence in order; a first half that is repeated is counted."""
    words = [word for layer in module if (word := _layer(layer))]
    for half in range(len(words) // 2, 1, -1):
        if words[:half] == words[half : 2 * half]:
            words = [f"2 × ({', '.join(words[:half])})", *words[2 * half :]]
            break
    return ", ".join(words)


def _layer(layer: nn.Module) -> str:
    match layer:
        case nn.Sequential():
            return _sequence(layer)
        case nn.Dropout():
            return f"dropout {layer.p:g}" if layer.p else ""
        case nn.Conv2d():
            return _convolution(layer)
    return "norm" if is_norm(layer) else type(layer).__name__
