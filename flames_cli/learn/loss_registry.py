"""The registry of losses. Its names are available without importing torch."""

from collections.abc import Callable
from typing import Any

from flames_cli.plugins import Registry

LOSSES: Registry[Callable[..., Any]] = Registry(
    "losses",
    {"dice-focal": "flames_cli.learn.losses:dice_focal_loss"},
    {"dice-focal": "Dice loss and focal loss, as in the paper"},
)
"""Function of each loss."""
