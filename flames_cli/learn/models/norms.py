"""Normalisation layers of a model: BatchNorm, BatchNorm with frozen statistics, or GroupNorm."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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
        model: a model on the CPU with layers of nn.BatchNorm2d.
        norm: "batch": nothing changes. "group": nn.GroupNorm, which has no statistics to share. "frozen":
            FrozenBatchNorm2d, with the same names in the state dict.

    Raises:
        ValueError: another value of `norm`.
    """
    if norm not in ("batch", "group", "frozen"):
        raise ValueError(f"got norm {norm!r}, expected batch, group or frozen")
    if norm == "batch":
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                setattr(parent, name, _replacement(layer, norm))


def _replacement(layer: nn.BatchNorm2d, norm: str) -> nn.Module:
    channels = layer.num_features
    if norm == "group":
        return nn.GroupNorm(_count_groups(channels), channels, eps=layer.eps)
    return FrozenBatchNorm2d(channels, eps=layer.eps)


def _count_groups(channels: int) -> int:
    """Return the largest divisor of `channels` that gives at most MOST_GROUPS groups of enough channels."""
    most = max(1, min(MOST_GROUPS, channels // CHANNELS_PER_GROUP))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def has_statistics(module: nn.Module) -> bool:
    """Return whether a layer's running statistics change in training."""
    return isinstance(module, _BatchNorm) and not isinstance(module, FrozenBatchNorm2d)


def is_norm(module: nn.Module) -> bool:
    """Return whether a layer normalises features, whatever it shares."""
    return isinstance(module, _BatchNorm | nn.GroupNorm)
