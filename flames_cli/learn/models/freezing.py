"""Freezing a part of a model: its parameters and its statistics of BatchNorm do not change."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from flames_cli.errors import FlamesError
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.norms import FrozenBatchNorm2d, has_statistics


def frozen_entries(model: SegmentationModel, freeze: str) -> frozenset[str]:
    """Return the names of the state-dict entries that `--freeze` keeps as they are.

    Args:
        model: the model.
        freeze: "none", or "encoder".

    Raises:
        FlamesError: the model does not say which entries its encoder has.
    """
    if freeze == "none":
        return frozenset()
    found = model.encoder_entries() & model.state_dict().keys()
    if not found:
        raise FlamesError(
            f"got --freeze {freeze}, and model {type(model).__name__} does not say which entries its encoder "
            "has, expected a model with the method encoder_entries; leave --freeze out, or add the method"
        )
    return found


@contextmanager
def frozen(model: SegmentationModel, freeze: str) -> Iterator[None]:
    """Freeze a part of `model` inside the block; raises as `frozen_entries`.

    No gradient is computed for its parameters, so that no optimiser changes them, whatever its weight decay.
    Its layers of BatchNorm normalise by their running statistics, as in a prediction, and keep them.
    """
    entries = frozen_entries(model, freeze)
    parameters = [one for name, one in model.named_parameters() if name in entries and one.requires_grad]
    norms = [
        module
        for name, module in model.network.named_modules()
        if has_statistics(module) and f"{name}.running_mean" in entries
    ]
    kinds = [_check_kind(module) for module in norms]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for module in norms:
        # The layer stays the same object, so that the model keeps its place in memory for recorded steps.
        module.__class__ = FrozenBatchNorm2d
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for module, kind in zip(norms, kinds, strict=True):
            module.__class__ = kind


def _check_kind(module: nn.Module) -> type[_BatchNorm]:
    """Return the class of a layer with statistics, which must be BatchNorm2d.

    Raises:
        FlamesError: it is another class, which FrozenBatchNorm2d cannot stand for.
    """
    if type(module) is not nn.BatchNorm2d:
        raise FlamesError(
            f"got --freeze encoder, and the model's encoder has a layer {type(module).__name__} with running "
            "statistics, expected BatchNorm2d only; leave --freeze out, or use a model with BatchNorm2d"
        )
    return nn.BatchNorm2d
