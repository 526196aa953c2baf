"""Tables of the report: the figures of a data set, in total and by site."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from flames_cli.core.imaging.quality import SHARES, Intensity, count_shares
from flames_cli.stages.check.inspection import CaseFigures, Inspected
from flames_cli.stages.check.survey import Survey

SMALL_SHARE = 0.005
"""Share of the image below which FedGS calls a lesion small."""

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
FIGURES = tuple(Intensity.__dataclass_fields__)


def tabulate(survey: Survey) -> list[dict[str, Any]]:
    """Return a row per modality and organ, with `site` None, each followed by a row per site if sites are
    named."""
    kinds: dict[tuple[str, str], dict[str, list[Inspected]]] = {}
    for part, own in survey.parts().items():
        kinds.setdefault((part.modality, part.organ), {})[part.site] = own
    rows = []
    for (modality, organ), by_site in kinds.items():
        head = {"modality": modality, "organ": organ}
        rows.append({**head, "site": None, **_row([one for own in by_site.values() for one in own])})
        if any(by_site):
            rows += [{**head, "site": site, **_row(own)} for site, own in by_site.items()]
    return rows


def _row(sources: Sequence[Inspected]) -> dict[str, Any]:
    cases = [case for one in sources for case in one.cases]
    return {
        "sources": len(sources),
        "patients": len({one.source.patient for one in sources}),
        "images": len(cases),
        "shapes": {f"{h}×{w}": n for (h, w), n in Counter(case.shape for case in cases).most_common()},
        "lesions": _lesions([case for case in cases if case.lesion_px]),
        "intensity": _intensity(cases),
        "spacing_mm": _spacing(cases),
    }


def _lesions(cases: Sequence[CaseFigures]) -> dict[str, Any]:
    """Return the numbers of images and lesions, and the lesions' share of the images that have one."""
    shares = [case.share for case in cases]
    return {
        "images": len(cases),
        "share": dict(zip(QUANTILES, np.quantile(shares, list(QUANTILES.values())).tolist(), strict=True))
        if shares
        else None,
        "small": sum(share < SMALL_SHARE for share in shares),
        "histogram": {"edges": list(SHARES), "counts": count_shares(shares)},
        "per_image": {
            str(n): images for n, images in sorted(Counter(case.lesions for case in cases).items())
        },
    }


def _intensity(cases: Sequence[CaseFigures]) -> dict[str, float]:
    """Return the median of each figure over the images, in their own units within the window."""
    return {name: float(np.median([getattr(case.intensity, name) for case in cases])) for name in FIGURES}


def _spacing(cases: Sequence[CaseFigures]) -> dict[str, list[float]] | None:
    """Return median, minimum and maximum of the spacing of rows, of columns and between slices; None if no
    image has it."""
    spacing = np.array([case.spacing_mm for case in cases])
    told = spacing[np.isfinite(spacing[:, 0])]
    if not len(told):
        return None
    return {
        name: [float(figure(column)) for column in told.T if np.isfinite(column).all()]
        for name, figure in (("median", np.median), ("min", np.min), ("max", np.max))
    }
