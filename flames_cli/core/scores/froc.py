"""Points of the free-response curve (FROC): lesions found against false positives per image, at several
thresholds. H W pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.scores.detection import MIN_IOU, LesionMatches, match_lesions
from flames_cli.core.scores.metrics import Binary

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def match_at_thresholds(
    probabilities: NDArray[np.floating[Any]],
    target: Binary,
    thresholds: Sequence[float] = THRESHOLDS,
    min_iou: float = MIN_IOU,
) -> dict[float, LesionMatches]:
    """Return the matched lesions of one case by threshold; probabilities above it are predicted.

    Raises:
        ValueError: as `match_lesions`.
    """
    return {one: match_lesions(probabilities > one, target, min_iou) for one in thresholds}
