"""A loss and an augmentation as plug-ins in one file.

flames federate --plugin examples/plugins/losses_and_augmentations.py --loss tversky --augmentation erase
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def tversky(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return the Tversky loss, in which a missed pixel counts more than a false one (Salehi et al. 2017).

    Args:
        probabilities: B×1×H×W in [0, 1].
        masks: B×1×H×W of 0 and 1.
    """
    hit = (probabilities * masks).sum()
    missed, false = ((1 - probabilities) * masks).sum(), (probabilities * (1 - masks)).sum()
    return 1 - (hit + 1) / (hit + 0.7 * missed + 0.3 * false + 1)


def erase(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the image with a square of a quarter of its side set to its mean, at a random place.

    Args:
        image: C×H×W in [0, 1].
        rng: generator of all draws.
    """
    side = image.shape[1] // 4
    row, column = (int(rng.integers(0, length - side + 1)) for length in image.shape[1:])
    changed = image.copy()
    changed[:, row : row + side, column : column + side] = image.mean()
    return changed


tversky.summary = "Tversky loss: a missed pixel counts 0.7, a false one 0.3"

LOSSES = {"tversky": tversky}
AUGMENTATIONS = {"erase": erase}
