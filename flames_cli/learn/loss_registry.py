"""The registry of losses. Its names are available without importing torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from flames_cli.plugins import Origin, Registry

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
"""Function of probabilities B×1×H×W in [0, 1] and masks B×1×H×W of 0 and 1; it returns a scalar."""

DEFAULT_LOSS = "dice-focal"

SUMMARIES = {DEFAULT_LOSS: "FLAMES' sum of Dice and Focal, by --dice-weight and --per-pixel-focal"}
"""Description of each built-in loss, in one line, for the help."""


def _check(found: object) -> str:
    expected = "a function of probabilities and masks"
    return "" if callable(found) else f"it is {type(found).__name__}, expected {expected}"


def _adapt(found: Loss, origin: Origin) -> Loss:
    from flames_cli.learn.plugin_losses import checked

    return checked(found, f"loss '{origin.name}' of the plug-in {origin}")


LOSSES: Registry[Loss] = Registry(
    "losses",
    {DEFAULT_LOSS: "flames_cli.learn.losses:dice_focal_loss"},
    SUMMARIES,
    check=_check,
    adapt=_adapt,
)
"""All losses, by name."""
