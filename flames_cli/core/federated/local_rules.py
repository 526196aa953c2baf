"""Formulas of the local update rules: the scaling factor of FedGS, the control variates of SCAFFOLD."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flames_cli.arrays import Weights


def scaling_factor(lesion_px: ArrayLike, small: ArrayLike, image_px: int, log_base: ArrayLike) -> float:
    """Return the scaling factor of a FedGS step: p = 1 + (2/B)·Σ_{x small} tanh((log_b a_x)²), in [1, 3].

    Source: FedGS (Schutte et al. 2024) and its authors' code. a_x is the image area divided by the lesion
    area, B the number of images in the batch.

    Args:
        lesion_px: number of lesion pixels in each of the B images; a small lesion that augmentation has moved
            out of its image (0 pixels) counts as infinitely small.
        small: for each image, true if its lesion is small by the rule of its data set.
        image_px: number of pixels of one image.
        log_base: base b, above 1, for each image or one for all.

    Raises:
        ValueError: the batch has no images.
    """
    areas, chosen = np.asarray(lesion_px, np.float64), np.asarray(small, bool)
    if not areas.size:
        raise ValueError("got a batch without images, expected at least one")
    bases = np.broadcast_to(np.asarray(log_base, np.float64), areas.shape)[chosen]
    with np.errstate(divide="ignore"):
        logs = np.log(image_px / areas[chosen]) / np.log(bases)
    return float(1.0 + 2.0 / areas.size * np.tanh(logs**2).sum())


def control_change(
    start: Weights, trained: Weights, server_control: Weights, n_steps: int, lr: float
) -> Weights:
    """Return the change of a client's control variate in a round of SCAFFOLD: (x − y)/(K·η) − c.

    Source: Karimireddy et al. 2020, algorithm 1, option II, with plain SGD.

    Args:
        start: weights x before the local training.
        trained: weights y after the local training.
        server_control: the server's control variate c, by parameter; its names select the entries.
        n_steps: number of steps K, above 0.
        lr: learning rate η, above 0.
    """
    return {
        name: np.asarray(
            (start[name].astype(np.float64) - trained[name]) / (n_steps * lr) - control, control.dtype
        )
        for name, control in server_control.items()
    }


def add_weights(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> Weights:
    """Return first + second for the entries of `second`; an entry that is missing in `first` counts as 0."""
    return {
        name: np.asarray(array + first[name]) if name in first else array.copy()
        for name, array in second.items()
    }
