"""The segmentation models, by name."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.densenet_unet import DenseNetUNet
from flames_cli.learn.models.sdnet import SDNet, SDUTNet
from flames_cli.learn.models.unet import UNet
from flames_cli.learn.models.utnet import UTNet
from flames_cli.learn.models.weights import load_encoder

MODELS: dict[str, Callable[..., SegmentationModel]] = {
    "densenet-unet": DenseNetUNet,
    "unet": UNet,
    "utnet": UTNet,
    "sd-utnet": SDUTNet,
    "sdnet": SDNet,
}
"""A model's options are the keyword arguments of its class."""


def build_model(
    name: str, encoder_weights: str | Path = "none", *, seed: int | None = None, **options: Any
) -> SegmentationModel:
    """The model `name` of MODELS on the CPU, in training mode.

    encoder_weights: "none", "imagenet" or a weights file (see `load_encoder`). seed: where given, the same
    seed gives the same weights and no global generator moves. Raises FlamesError for an unknown name, an
    unknown or wrong option, or weights that do not fit.
    """
    _check_options(name, options)
    with _seeded(seed) if seed is not None else nullcontext():
        model = MODELS[name](**options)
    load_encoder(model, encoder_weights)
    return model


def options_for(channels: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's `options` with the in_channels of images of `channels` channels.

    Raises FlamesError where `options` ask for another in_channels.
    """
    asked = options.get("in_channels", channels)
    if asked != channels:
        raise FlamesError(
            f"model option in_channels = {asked}, but the images have {channels}; leave it out, "
            "or preprocess with other --channels"
        )
    return {**options, "in_channels": channels}


def _check_options(name: str, options: dict[str, Any]) -> None:
    if name not in MODELS:
        raise FlamesError(f"unknown model {name!r}: choose one of {', '.join(sorted(MODELS))}")
    allowed = inspect.signature(MODELS[name]).parameters
    for option, value in options.items():
        if option not in allowed:
            raise FlamesError(f"unknown option {option!r} of model {name}: it has {', '.join(allowed)}")
        kind = allowed[option].annotation
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise FlamesError(f"option {option} = {value!r} of model {name}: expected {kind.__name__}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    # Not torch.manual_seed, which would seed the CUDA and MPS generators too; models are built on the CPU.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
