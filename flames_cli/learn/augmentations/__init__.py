"""The registry of augmentations of intensities. Its names are available without importing torch."""

from collections.abc import Callable
from typing import Any

from flames_cli.plugins import Registry

AUGMENTATIONS: Registry[Callable[..., Any]] = Registry(
    "augmentations",
    {
        "gamma": "flames_cli.learn.augmentations.intensities:change_gamma",
        "blur": "flames_cli.learn.augmentations.intensities:blur",
        "noise": "flames_cli.learn.augmentations.intensities:add_noise",
        "bias-field": "flames_cli.learn.augmentations.intensities:multiply_by_bias_field",
    },
    {
        "gamma": "brightness of the greys",
        "blur": "smoothing",
        "noise": "Gaussian noise",
        "bias-field": "slow change of brightness over the image",
    },
)
"""Function of each augmentation."""
