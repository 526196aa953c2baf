"""The figures of a data set, whole and by site: what its report tabulates."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from flames_cli.core.imaging.quality import SHARES, Intensity, count_shares
from flames_cli.stages.check.inspection import CaseFigures, Inspected
from flames_cli.stages.check.survey import Survey

SMALL_SHARE = 0.005
"""Of the image: what FedGS calls a small lesion."""

QUANTILES = {"min": 0.0, "p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
FIGURES = tuple(Intensity.__dataclass_fields__)


def tabulate(survey: Survey) -> list[dict[str, Any]]:
    """A row a modality and organ, with `site` None, each followed by a row a site where sites are told."""
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
    """Of the images that bear one: their share of the image, and how many there are."""
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
    """Each figure's median over the images, in their own units within the window."""
    return {name: float(np.median([getattr(case.intensity, name) for case in cases])) for name in FIGURES}


def _spacing(cases: Sequence[CaseFigures]) -> dict[str, list[float]] | None:
    """Rows, columns, from slice to slice: median, least and most; None where it is told of no image."""
    spacing = np.array([case.spacing_mm for case in cases])
    told = spacing[np.isfinite(spacing[:, 0])]
    if not len(told):
        return None
    return {
        name: [float(figure(column)) for column in told.T if np.isfinite(column).all()]
        for name, figure in (("median", np.median), ("min", np.min), ("max", np.max))
    }
