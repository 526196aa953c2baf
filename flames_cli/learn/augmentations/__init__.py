"""The registry of augmentations of intensities. Its names are available without importing torch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flames_cli.plugins import Origin, Registry

Image = NDArray[np.float32]
Augmentation = Callable[[Image, np.random.Generator], Image]
"""Function of an image C×H×W float32 in [0, 1] and a generator; it returns an image of the same shape."""

SUMMARIES = {
    "gamma": "contrast: intensities to the power of 0.67 to 1.5",
    "blur": "Gaussian blur of 0.5 to 1 pixels",
    "noise": "Gaussian noise of up to 5 % of the range",
    "bias-field": "smoothly varying brightness, as by an MRI coil",
}
"""Description of each built-in augmentation, in one line, for the help."""


def _check(found: object) -> str:
    return "" if callable(found) else f"it is {type(found).__name__}, expected a function of image and rng"


def _adapt(found: Augmentation, origin: Origin) -> Augmentation:
    from flames_cli.learn.augmentations.applying import checked

    return checked(found, f"augmentation '{origin.name}' of the plug-in {origin}")


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentations",
    {
        "gamma": "flames_cli.learn.augmentations.intensities:change_gamma",
        "blur": "flames_cli.learn.augmentations.intensities:blur",
        "noise": "flames_cli.learn.augmentations.intensities:add_noise",
        "bias-field": "flames_cli.learn.augmentations.intensities:multiply_by_bias_field",
    },
    SUMMARIES,
    check=_check,
    adapt=_adapt,
)
"""All augmentations, by name."""
