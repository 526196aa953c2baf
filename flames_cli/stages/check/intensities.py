"""Images and sites that are far brighter or darker than the other training images."""

from collections.abc import Iterator

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.core.imaging.quality import distance_from, robust_z
from flames_cli.stages.check.survey import Finding, Part, Survey, Where, count_noun

# These limits are our own choice.
OUTLIER_Z = 6.0
"""Distance from the median of the site's images, in robust standard deviations."""
SITE_DISTANCE = 3.0
"""Distance from the median of the other sites' images, in robust standard deviations."""
ENOUGH = 10
"""Number of images or volumes that a robust standard deviation needs."""


def find_odd_levels(survey: Survey) -> Iterator[Finding]:
    """Return findings for images that differ from their site's other images, and for sites that differ from
    the others, by brightness as the model sees it."""
    levels = {
        part: np.array([np.mean([case.level for case in one.cases]) for one in own])
        for part, own in survey.parts().items()
    }
    odd = tuple(_outliers(survey, levels))
    if odd:
        yield Finding(
            severity="note",
            code="intensity-outlier",
            what=f"{count_noun(len(odd), survey.noun)} far brighter or darker than their site's others",
            fix="check these images for another device, inverted intensities or a wrong unit",
            where=odd,
        )
    apart = tuple(_sites_apart(levels))
    if apart:
        yield Finding(
            severity="note",
            code="site-apart",
            what=f"{count_noun(len(apart), 'site')} far brighter or darker than the others",
            fix="expect models to transfer less well; "
            "check whether units and windows are the same everywhere",
            where=apart,
        )


def _outliers(survey: Survey, levels: dict[Part, Floats]) -> Iterator[Where]:
    for part, own in survey.parts().items():
        if len(own) < ENOUGH:
            continue
        middle = float(np.median(levels[part]))
        for one, level, z in zip(own, levels[part], robust_z(levels[part]), strict=True):
            if abs(z) > OUTLIER_Z:
                text = (
                    f"{one.source.name}: mean {level:.2f} of the window, the median {middle:.2f} (z {z:+.1f})"
                )
                yield Where(text, (one.source.name,))


def _sites_apart(levels: dict[Part, Floats]) -> Iterator[Where]:
    for part, own in levels.items():
        nearby = [other for key, other in levels.items() if key[:2] == part[:2] and key != part and part.site]
        if len(own) < ENOUGH or sum(map(len, nearby)) < ENOUGH:
            continue
        others = np.concatenate(nearby)
        distance = distance_from(own, others)
        if distance > SITE_DISTANCE:
            yield Where(
                f"{part.site}: mean {own.mean():.2f} of the window, others' median {np.median(others):.2f} "
                f"({distance:.1f} robust standard deviations)",
                names=(part.modality, part.organ, part.site),
            )
