"""The registry of segmentation models. Their names are available without importing torch."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from flames_cli.errors import FlamesError
from flames_cli.plugins import Registry

if TYPE_CHECKING:
    from flames_cli.learn.models.base import SegmentationModel

MODEL_SUMMARIES = {
    "densenet-unet": "U-Net of FLAMES on the first blocks of a DenseNet121, 31 million parameters",
    "unet": "plain and small U-Net",
    "utnet": "U-Net with efficient self-attention",
    "sd-utnet": "disentangled model: content by a UTNet, and a style of its own for each client",
    "sdnet": "disentangled model: content by a plain U-Net, and a style of its own for each client",
}
"""Description of each built-in model, in one line, for the help."""

MODELS: Registry[Callable[..., "SegmentationModel"]] = Registry(
    "models",
    {
        "densenet-unet": "flames_cli.learn.models.densenet_unet:DenseNetUNet",
        "unet": "flames_cli.learn.models.unet:UNet",
        "utnet": "flames_cli.learn.models.utnet:UTNet",
        "sd-utnet": "flames_cli.learn.models.sdnet:SDUTNet",
        "sdnet": "flames_cli.learn.models.sdnet:SDNet",
    },
    MODEL_SUMMARIES,
)
"""Class of each model. A model's options are its class' keyword arguments."""

_SEEDING = Lock()

DENSENET_TRAINING: dict[str, Any] = {"lr": 1e-4, "batch_size": 64}
"""Defaults of the options of training for densenet-unet: those of the FLAMES paper."""
SMALL_TRAINING: dict[str, Any] = {"lr": 1e-3, "batch_size": 16}
"""Defaults of the options of training for all other models, which have no pre-trained encoder."""


def training_defaults(name: str) -> dict[str, Any]:
    """Return the default learning rate and batch size of the model `name`."""
    return DENSENET_TRAINING if name == "densenet-unet" else SMALL_TRAINING


def model_class(name: str) -> Callable[..., "SegmentationModel"]:
    """Import and return the class of the model `name`.

    Raises:
        FlamesError: the name is not known, or its plug-in cannot be used.
    """
    return MODELS.look_up(name)


def build_model(
    name: str,
    encoder_weights: str | Path = "none",
    *,
    seed: int | None = None,
    norm: str = "batch",
    **options: Any,
) -> "SegmentationModel":
    """Build the model `name` of MODELS on the CPU, in training mode.

    Args:
        name: a name in MODELS.
        encoder_weights: "none", "imagenet" or a weights file (see `load_encoder`).
        seed: the same seed gives the same weights, and no global generator changes. None: torch's own
            generator draws them.
        norm: normalisation layers, "batch", "group" or "frozen" (see `models.norms.set_norm`).
        **options: keyword arguments of the model's class.

    Raises:
        FlamesError: an unknown name, an unknown or wrong option, or weights that do not fit.
    """
    # Imported here, since both import torch.
    from flames_cli.learn.models.norms import set_norm
    from flames_cli.learn.models.weights import load_encoder

    check_options(name, options)
    build = model_class(name)
    with _seeded(seed) if seed is not None else nullcontext():
        model = build(**options)
    set_norm(model, norm)
    load_encoder(model, encoder_weights)
    return model


def options_for(channels: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's `options` with in_channels set to `channels`, the number of channels of the images.

    Raises:
        FlamesError: `options` already contain a different in_channels.
    """
    asked = options.get("in_channels", channels)
    if asked != channels:
        raise FlamesError(
            f"model option in_channels = {asked}, but the images have {channels}; leave it out, "
            "or preprocess with other --channels"
        )
    return {**options, "in_channels": channels}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check that `options` are arguments of the class of the model `name`, and have their types.

    Raises:
        FlamesError: an unknown name, or an unknown or wrong option.
    """
    allowed = inspect.signature(model_class(name)).parameters
    for option, value in options.items():
        if option not in allowed:
            raise FlamesError(f"unknown option {option!r} of model {name}: it has {', '.join(allowed)}")
        kind = allowed[option].annotation
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise FlamesError(f"option {option} = {value!r} of model {name}: expected {kind.__name__}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block, and restore its state afterwards."""
    import torch

    # Not torch.manual_seed, which would also seed the CUDA and MPS generators; models are built on the CPU.
    # Threads of several devices share the generator.
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
