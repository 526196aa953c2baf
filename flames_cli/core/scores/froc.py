"""Points of the free-response curve (FROC): lesions found against false positives per image, at several
thresholds. H W pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.core.scores.detection import MIN_IOU, LesionMatches, match_lesions
from flames_cli.core.scores.metrics import Binary

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)

MatchesByThreshold = Mapping[float, LesionMatches]


@dataclass(frozen=True, slots=True)
class FrocPoint:
    """Lesions at one threshold of the probability, summed over images."""

    threshold: float
    matches: LesionMatches

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that are matched, in [0, 1]; NaN if there is no lesion."""
        return self.matches.recall()

    @property
    def false_positives(self) -> float:
        """Mean number of predicted parts of an image without a lesion of their own; NaN without images."""
        return self.matches.false_positives_per_image()


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


def froc(cases: Iterable[MatchesByThreshold]) -> list[FrocPoint]:
    """Return one point per threshold, in rising order, with the sums over all cases.

    Images, not patients, are counted, as in the analysis of Bunch et al. 1977.

    Raises:
        ValueError: the thresholds of the cases differ.
    """
    sums: dict[float, LesionMatches] | None = None
    for case in cases:
        if sums is None:
            sums = dict(case)
            continue
        if sums.keys() != case.keys():
            raise ValueError(
                f"got the thresholds {sorted(case)} after {sorted(sums)}, expected the same ones"
            )
        sums = {threshold: sums[threshold] + case[threshold] for threshold in sums}
    return [FrocPoint(threshold, matches) for threshold, matches in sorted((sums or {}).items())]
