"""Augmentations of a client's training images; draws depend on the place of an image in the run alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.learn.augmentations import AUGMENTATIONS, Augmentation, Image
from flames_cli.learn.data import Change
from flames_cli.learn.train_options import LocalRound
from flames_cli.plugins import RAISED, describe_error

ROUNDING = 1e-4
"""Distance from [0, 1] that the values of a plug-in's image may have; such an image is clipped."""


def make_change(local: LocalRound, epoch: int) -> Change | None:
    """Return the change of the images of one epoch by `augmentations`; None if there are none.

    Each augmentation draws from a generator of its own, derived from seed, client, round, epoch and case:
    the images are the same in every engine, and whichever other augmentations there are.

    Raises:
        FlamesError: an augmentation is not known, or its plug-in cannot be used.
    """
    names = local.options.augmentations
    if not names:
        return None
    augmentations = [(name, AUGMENTATIONS.look_up(name)) for name in names]

    def change(case: int, image: NDArray[np.float32]) -> NDArray[np.float32]:
        channels_first = image[None] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(image, 2, 0))
        for name, augmentation in augmentations:
            rng = derive_rng(local.seed, "augmentation", name, *local.scope, epoch, case)
            channels_first = augmentation(channels_first, rng)
        return channels_first[0] if image.ndim == 2 else np.moveaxis(channels_first, 0, 2)

    return change


def checked(augmentation: Augmentation, who: str) -> Augmentation:
    """Return an augmentation of a plug-in whose results are checked.

    Args:
        augmentation: function of the plug-in.
        who: augmentation and plug-in, for messages.
    """

    def call(image: Image, rng: np.random.Generator) -> Image:
        expected = image.shape
        try:
            found = augmentation(image.copy(), rng)
        except RAISED as error:
            raise FlamesError(
                f"{who} fails on an image of shape {_shape(expected)} ({describe_error(error)}), expected an "
                "image of the same shape; correct the plug-in, or leave its --augmentation out"
            ) from error
        return _checked_image(found, expected, who)

    return call


def _checked_image(found: object, expected: Sequence[int], who: str) -> Image:
    """Return a plug-in's image in float32, clipped to [0, 1].

    Raises:
        FlamesError: it is no image of the `expected` shape, or has values outside [0, 1].
    """
    kind = type(found).__name__
    if isinstance(found, np.ndarray):
        kind = f"{found.dtype} of shape {_shape(found.shape)}"
        if found.dtype.kind == "f" and found.shape == tuple(expected):
            # NaN is in no range: both comparisons are then false.
            low, high = float(found.min()), float(found.max())
            if low >= -ROUNDING and high <= 1 + ROUNDING:
                return np.clip(found.astype(np.float32, copy=False), 0, 1)
            kind = f"values from {low:g} to {high:g}"
    raise FlamesError(
        f"{who} returns {kind}, expected floats in [0, 1] of shape {_shape(expected)}; correct the plug-in, "
        "or leave its --augmentation out"
    )


def probe_augmentations(names: Sequence[str], size: int, channels: int) -> None:
    """Check each augmentation of a plug-in on one image of a run's size, before the run begins.

    Raises:
        FlamesError: an augmentation is not known, fails, gives no such image, or gives two different images
            for the same generator.
    """
    for name in names:
        augmentation = AUGMENTATIONS.look_up(name)
        if AUGMENTATIONS.origin(name) is None:
            continue
        image = derive_rng(0, "probe").random((channels, size, size), np.float32)
        first, again = (augmentation(image.copy(), derive_rng(0, "probe", name)) for _ in range(2))
        if not np.array_equal(first, again):
            raise FlamesError(
                f"augmentation '{name}' of the plug-in {AUGMENTATIONS.origin(name)} gives two different "
                "images for the same generator, expected that all of its draws are from `rng`, so that every "
                "engine trains on the same bytes; correct the plug-in, or leave its --augmentation out"
            )


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
