"""What a client adds to plain training, in arithmetic: FedGS' scaling factor, SCAFFOLD's control variates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flames_cli.arrays import Weights


def scaling_factor(lesion_px: ArrayLike, small: ArrayLike, image_px: int, log_base: ArrayLike) -> float:
    """How much a step counts in FedGS: p = 1 + (2/B)·Σ_{x small} tanh((log_b a_x)²), from 1 to 3.

    Source: FedGS (Schutte et al. 2024) and its authors' code; a_x is image area / lesion area, B the number
    of images in the batch.

    Args:
        lesion_px: pixels of lesion in each of the B images; a small lesion that augmentation has moved out of
            its image (0 pixels) counts as infinitely small.
        small: which of the images are small by their data set's rule.
        image_px: pixels of one image.
        log_base: b, above 1, of each image or of all.

    Raises:
        ValueError: no images.
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
    """How SCAFFOLD's control variate of a client changes in a round: (x − y)/(K·η) − c.

    Source: Karimireddy et al. 2020, algorithm 1, option II, with plain SGD.

    Args:
        start: x, what the client started from.
        trained: y, what it ended with.
        server_control: c, by parameter; its names choose the entries.
        n_steps: K, above 0.
        lr: η, above 0.
    """
    return {
        name: ((start[name].astype(np.float64) - trained[name]) / (n_steps * lr) - control).astype(
            control.dtype
        )
        for name, control in server_control.items()
    }


def add_weights(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> Weights:
    """first + second, entry by entry, for the entries of `second`; one missing in `first` counts as zero."""
    return {name: array + first[name] if name in first else array.copy() for name, array in second.items()}
