"""Normalisation layers of a model: BatchNorm, BatchNorm with frozen statistics, or GroupNorm."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from flames_cli.errors import FlamesError

CHANNELS_PER_GROUP = 4
"""Least number of channels of a group, so that a group is not one channel of a thin layer."""
MOST_GROUPS = 32
"""Largest number of groups, the number that Wu and He ("Group Normalization", 2018) use."""


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that always normalises by its running statistics and never changes them.

    Scale and shift are trained as usual. The authors of FLAMES train in this way, since they put the model
    into evaluation mode.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, B×C×H×W, normalised by the stored statistics."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def set_norm(model: nn.Module, norm: str) -> None:
    """Replace all BatchNorm layers of `model`, in place.

    The new layers have the initial scale 1 and shift 0, so no random numbers are drawn.

    Args:
        model: a model on the CPU; other layers than nn.BatchNorm2d do not change.
        norm: "batch": nothing changes. "group": nn.GroupNorm, which has no statistics to share. "frozen":
            FrozenBatchNorm2d, with the same names in the state dict.

    Raises:
        ValueError: another value of `norm`.
        FlamesError: the model (of a plug-in) has no such layer, or one that cannot be replaced.
    """
    if norm not in ("batch", "group", "frozen"):
        raise ValueError(f"got norm {norm!r}, expected batch, group or frozen")
    if norm == "batch":
        return
    _check_replaceable(model, norm)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, _replacement(layer, norm))


def _check_replaceable(model: nn.Module, norm: str) -> None:
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    other = [
        type(layer).__name__
        for layer in layers
        if not (isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats)
    ]
    if layers and not other:
        return
    kind = f"{other[0]}, which is no nn.BatchNorm2d with statistics" if other else "no BatchNorm"
    raise FlamesError(
        f"--norm {norm} replaces the BatchNorm of a model, and this one has {kind}; leave --norm out, or let "
        "the plug-in build its network with nn.BatchNorm2d"
    )


def _replacement(layer: nn.BatchNorm2d, norm: str) -> nn.Module:
    channels = layer.num_features
    if norm == "group":
        return nn.GroupNorm(_count_groups(channels), channels, eps=layer.eps, affine=layer.affine)
    return FrozenBatchNorm2d(channels, eps=layer.eps, affine=layer.affine)


def _count_groups(channels: int) -> int:
    """Return the largest divisor of `channels` that gives at most MOST_GROUPS groups of enough channels."""
    most = max(1, min(MOST_GROUPS, channels // CHANNELS_PER_GROUP))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def has_statistics(module: nn.Module) -> bool:
    """Return whether a layer's running statistics change in training."""
    return isinstance(module, _BatchNorm) and not isinstance(module, FrozenBatchNorm2d)


def is_norm(module: nn.Module) -> bool:
    """Return whether a layer normalises features, whatever it shares."""
    return isinstance(module, _BatchNorm | _InstanceNorm | nn.GroupNorm | nn.LayerNorm)
