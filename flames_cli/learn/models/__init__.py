"""The registry of segmentation models. Their names are available without importing torch."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from flames_cli.errors import FlamesError
from flames_cli.plugins import Origin, Registry

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


def _check(found: object) -> str:
    from flames_cli.learn.models.plugin_models import find_callable_fault

    return find_callable_fault(found)


def _adapt(found: Callable[..., Any], origin: Origin) -> Callable[..., "SegmentationModel"]:
    from flames_cli.learn.models.plugin_models import PluginModel

    return PluginModel(found, origin)


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
    check=_check,
    adapt=_adapt,
)
"""Class of each model, or the builder of a plug-in's. A model's options are its keyword arguments."""

_SEEDING = Lock()

_NO_PACKAGE = re.compile(r"^\W|[^\w .-]")
"""Characters that are in no name of a package (see `store.models.PLUGIN`)."""

RESERVED = ("name", "encoder_weights", "seed", "norm")
"""Arguments of `build_model`, which no option of a model may be called."""

DENSENET_TRAINING: dict[str, Any] = {"lr": 1e-4, "batch_size": 64}
"""Defaults of the options of training for densenet-unet: those of the FLAMES paper."""
SMALL_TRAINING: dict[str, Any] = {"lr": 1e-3, "batch_size": 16}
"""Defaults of the options of training for all other models, which have no pre-trained encoder."""


def training_defaults(name: str) -> dict[str, Any]:
    """Return the default learning rate and batch size of the model `name`.

    Raises:
        FlamesError: the model's plug-in cannot be used, or has other defaults.
    """
    if name == "densenet-unet":
        return DENSENET_TRAINING
    own = getattr(model_class(name), "training_defaults", {}) if MODELS.origin(name) else {}
    return {**SMALL_TRAINING, **own}


def plugin_of(name: str) -> str | None:
    """Return package and version of the plug-in that gives the model `name`; None for a built-in one.

    Other characters than those of a package's name, which only the name of a file can have, are replaced.
    """
    origin = MODELS.origin(name)
    return f"{re.sub(_NO_PACKAGE, '_', origin.package)} {origin.version}" if origin else None


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
    parameters = inspect.signature(model_class(name)).parameters
    allowed = {
        key: one for key, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    for option, value in options.items():
        if option in RESERVED or not (takes_any or option in allowed):
            raise FlamesError(f"unknown option {option!r} of model {name}: it has {', '.join(allowed)}")
        kind = _type_of(allowed.get(option))
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            expected = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise FlamesError(f"option {option} = {value!r} of model {name}: expected {expected}")


def _type_of(parameter: inspect.Parameter | None) -> Any:
    """Return the type of a model's option; a plug-in may state none, or as a text."""
    stated = parameter.annotation if parameter else None
    return {"int": int, "float": float, int: int, float: float}.get(stated, (int, float))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block, and restore its state afterwards."""
    import torch

    # Not torch.manual_seed, which would also seed the CUDA and MPS generators; models are built on the CPU.
    # Threads of several devices share the generator.
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
