"""Images and sites that are brighter or darker than others, and the rules that make them so."""

from collections.abc import Iterator, Sequence

import numpy as np

from flames_cli.arrays import Floats
from flames_cli.core.imaging.quality import distance_from, robust_z
from flames_cli.readers.formats.ranges import family_of, is_ct
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
            fix="expect models to be less accurate there; "
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


def find_ct_windows(survey: Survey) -> Iterator[Finding]:
    """Return a note on the windows of modalities that are CT and have another name than CT."""
    windows: dict[str, set[tuple[float, float]]] = {}
    for part, own in survey.parts().items():
        if is_ct(part.modality) and part.modality != "CT":
            figures = [case.clipping for one in own for case in one.cases if case.clipping]
            windows.setdefault(part.modality, set()).update((one.low, one.high) for one in figures)
    where = tuple(
        Where(f"{modality}: {low:g} becomes black and {high:g} white", names=(modality,))
        for modality, used in windows.items()
        for low, high in sorted(used)
    )
    if where:
        yield Finding(
            severity="note",
            code="ct-window",
            what="a modality whose name starts with CT is scaled as CT in HU",
            fix="nothing, if it is CT; else pass --window MODALITY=LOW,HIGH for it, or give it another name",
            where=where,
        )


def find_other_scales(survey: Survey, surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Return a note on the modalities of `survey` that are partly 8-bit images, which stay as they are, and
    partly volumes or 16-bit images, which are scaled, in `surveys`."""
    counts: dict[str, dict[str, list[int]]] = {}
    for other in surveys:
        for part, own in other.parts().items():
            by_set = counts.setdefault(family_of(part.modality), {})
            both = by_set.setdefault(other.name, [0, 0])
            for one in own:
                both[one.cases[0].clipping is not None] += 1
    mixed = {
        modality: by_set
        for modality, by_set in counts.items()
        if survey.name in by_set and all(any(both[kind] for both in by_set.values()) for kind in (0, 1))
    }
    if mixed:
        yield Finding(
            severity="note",
            code="other-scaling",
            what="8-bit images, which stay as they are, and volumes or 16-bit images, which are scaled, "
            f"of one modality: {', '.join(mixed)}",
            fix="expect the same tissue to differ in brightness; read all of them from volumes, or pass the "
            "--window MODALITY=LOW,HIGH with which the 8-bit images were made",
            where=tuple(
                Where(f"{modality}, {name}: {_count_kinds(eight, scaled)}", names=(modality, name))
                for modality, by_set in mixed.items()
                for name, (eight, scaled) in by_set.items()
            ),
        )


def _count_kinds(eight: int, scaled: int) -> str:
    kinds = [count_noun(eight, "8-bit image")] if eight else []
    kinds += [count_noun(scaled, "volume or 16-bit image", "volumes or 16-bit images")] if scaled else []
    return ", ".join(kinds)
