"""Models of plug-ins: building, and the checks of what they give.

A plug-in gives a subclass of `SegmentationModel`, or any callable `(in_channels, **options)` that returns a
network with logits. B batch, C channels, H W pixels.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.logits_model import LogitsModel
from flames_cli.learn.train_options import BY_MODEL, TrainOptions, rejection_reason
from flames_cli.plugins import RAISED, Origin, describe_error

DTYPES = (torch.float32, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of a model's entries: all that travels in messages without a loss."""

OF_VOLUMES = (nn.Conv3d, nn.ConvTranspose3d, nn.modules.batchnorm.BatchNorm3d)


class PluginModel:
    """Builder of a plug-in's model; its signature is that of the plug-in's callable."""

    def __init__(self, build: Callable[..., nn.Module], origin: Origin) -> None:
        self._build = build
        self.who = f"model '{origin.name}' of the plug-in {origin}"
        self.__signature__ = signature_of(build)

    @property
    def training_defaults(self) -> dict[str, Any]:
        """The plug-in's own defaults of BY_MODEL, from its attribute of this name; empty without one.

        Raises:
            FlamesError: they are no such options, or outside their limits.
        """
        given = getattr(self._build, "training_defaults", None) or {}
        expected = f"expected a dictionary with numbers for {' and '.join(BY_MODEL)}; correct the plug-in"
        if not isinstance(given, Mapping) or set(given) - set(BY_MODEL):
            raise FlamesError(f"{self.who} has training_defaults {given!r}, {expected}")
        if reason := rejection_reason(replace(TrainOptions(), **given)):
            raise FlamesError(f"{self.who} has training_defaults with {reason}; correct the plug-in")
        return dict(given)

    def __call__(self, **options: Any) -> SegmentationModel:
        """Build the model on torch's default device.

        On the device meta, where not every network can be built, the CPU is used instead.

        Raises:
            FlamesError: the plug-in cannot build it with these options, or it cannot be trained here.
        """
        try:
            net = self._built(options)
        except FlamesError:
            if torch.empty(0).device.type != "meta":
                raise
            with torch.device("cpu"):
                net = self._built(options)
        if fault := find_fault(net):
            raise FlamesError(f"{self.who} {fault}")
        if isinstance(net, SegmentationModel):
            return net
        least, last = self._find(net, "min_size", 1), self._find(net, "channels_last", True)
        return LogitsModel(net, options["in_channels"], self.who, int(least), bool(last))

    def _find(self, net: nn.Module, name: str, default: Any) -> Any:
        """Return an attribute of the plug-in's callable or of its network."""
        found = getattr(self._build, name, None)
        found = getattr(net, name, None) if found is None else found
        return found if isinstance(found, int) else default

    def _built(self, options: Mapping[str, Any]) -> nn.Module:
        try:
            return self._build(**options)
        except FlamesError:
            raise
        except RAISED as error:
            given = ", ".join(f"{name} = {value}" for name, value in options.items())
            raise FlamesError(
                f"{self.who} cannot be built with {given} ({describe_error(error)}); change its "
                "--model-option, or correct the plug-in"
            ) from error


def signature_of(build: Callable[..., object]) -> inspect.Signature:
    """Return the signature of a plug-in's callable; one that accepts everything if it has none."""
    try:
        return inspect.signature(build)
    except (TypeError, ValueError):
        return inspect.Signature([inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)])


def find_callable_fault(found: object) -> str:
    """Return why an object cannot be a plug-in's model; else ""."""
    expected = "expected a subclass of SegmentationModel, or a callable (in_channels, **options)"
    if isinstance(found, nn.Module) or not callable(found):
        return f"it is {type(found).__name__}, {expected} that returns a network"
    parameters = signature_of(found).parameters.values()
    if not any(one.name == "in_channels" or one.kind is one.VAR_KEYWORD for one in parameters):
        return f"it has no argument in_channels, {expected}"
    return ""


def find_fault(net: object) -> str:
    """Return why a network cannot be trained here; else ""."""
    if not isinstance(net, nn.Module):
        return f"gives {type(net).__name__}, expected a torch.nn.Module; correct the plug-in"
    if isinstance(net, SegmentationModel) and not hasattr(net, "min_size"):
        return "does not call SegmentationModel's __init__(in_channels, min_size); correct the plug-in"
    for part in net.modules():
        if isinstance(part, OF_VOLUMES):
            return (
                f"is a network for volumes (it has {type(part).__name__}), expected one for images B×C×H×W; "
                "let the plug-in build it with two dimensions, such as spatial_dims=2 in MONAI"
            )
    if not any(parameter.requires_grad for parameter in net.parameters()):
        return "has no parameter that is trained, expected at least one; correct the plug-in"
    return _find_entry_fault(net)


def _find_entry_fault(net: nn.Module) -> str:
    """Return what is wrong with an entry of a network's state dict; else ""."""
    owners: dict[int, str] = {}
    for name, entry in net.state_dict(keep_vars=True).items():
        if is_lazy(entry):
            return f"has an entry without a shape ({name}), expected no lazy layers; give their sizes"
        if not isinstance(entry, Tensor):
            return (
                f"has an entry {name} that is {type(entry).__name__}, expected tensors only, since its "
                "state travels as arrays; make it a buffer"
            )
        if entry.ndim == 5:
            return f"has an entry {name} of five dimensions, as of a network for volumes, expected up to four"
        if entry.dtype not in DTYPES:
            return f"has an entry {name} of {entry.dtype}, expected torch.float32 or integers; call .float()"
        if id(entry) in owners:
            return (
                f"shares one tensor between its entries {owners[id(entry)]} and {name}, expected an own "
                "tensor for each, since each is averaged by itself; copy it"
            )
        owners[id(entry)] = name
    return ""
