"""Masks that are equal pixel for pixel although their images are of different patients."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from flames_cli.core.imaging.near_duplicates import COPY_BITS
from flames_cli.stages.check.inspection import CaseFigures, Inspected, unpack_mask
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun

FEWEST_PX = 50
"""Least number of lesion pixels, at the requested size: smaller masks may be equal by chance. Our own
choice."""
FULL_SHARE = 0.9
"""Share of the image above which masks are equal because they are full, which is a finding of its own."""


class _Marked(NamedTuple):
    inspected: Inspected
    case: CaseFigures


def find_equal_masks(survey: Survey) -> Iterator[Finding]:
    """Return a finding for masks that were copied from one patient to another.

    Copies of images have copies of their masks: `find_copies` reports them. Data sets that do not name their
    patients contain such pairs without a fault, for example neighbouring frames.
    """
    if not survey.reader.knows_patients:
        return
    slices: dict[tuple[str, str], int] = {}
    first_of: dict[tuple[tuple[int, int], bytes], _Marked] = {}
    for one in survey.usable:
        for case in one.cases:
            if case.lesion_px_at_size < FEWEST_PX or case.share > FULL_SHARE:
                continue
            marked = _Marked(one, case)
            first = first_of.setdefault((case.shape, case.packed_mask), marked)
            if _are_contradictory(first, marked) and not _is_box(case, survey.size):
                names = (first.inspected.source.name, one.source.name)
                slices[names] = slices.get(names, 0) + 1
    if slices:
        yield Finding(
            severity="problem",
            code="copies-of-masks",
            what=f"{count_noun(len(slices), 'mask is', 'masks are')} equal to that of another patient",
            fix="give each image the mask of its own patient",
            where=tuple(
                Where(f"{a} = {b}" + (f" ({n} slices)" if n > 1 else ""), (a, b))
                for (a, b), n in slices.items()
            ),
        )


def _is_box(case: CaseFigures, size: int) -> bool:
    """Return whether the mask is an upright box: two of them may be equal by chance."""
    mask = unpack_mask(case, size)
    height, width = (int(mask.any(axis=axis).sum()) for axis in (1, 0))
    return int(mask.sum()) == height * width


def _are_contradictory(first: _Marked, other: _Marked) -> bool:
    """Return whether two equal masks belong to different images of different patients."""
    one, two = first.inspected, other.inspected
    if one.source.patient == two.source.patient or first.case.digest == other.case.digest:
        return False
    if one.look is None or two.look is None:
        return True
    return int(np.count_nonzero(one.look != two.look)) > COPY_BITS
