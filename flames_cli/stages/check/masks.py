"""Findings about masks: their labels, their size, and images that are used without a lesion."""

from collections.abc import Iterator

from flames_cli.core.imaging.label_names import option_text
from flames_cli.core.imaging.lesions import FULL_MASK
from flames_cli.stages.acceptance import FULL_MASK_CODE
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun, name_cases
from flames_cli.stages.labels import absent_labels, differing_labels

TINY_PX = 10
"""Pixels, at the requested size: the loss sees a smaller lesion as a few pixels of noise."""


def find_labels(survey: Survey) -> Iterator[Finding]:
    """Return findings for chosen labels that no mask has, and for masks whose only labels differ."""
    sound = [(one, one.source.labels or survey.options.labels) for one in survey.inspected if not one.bad]
    found = {label for one, chosen in sound if chosen for label in one.labels}
    if absent := absent_labels((chosen for _, chosen in sound), found):
        yield Finding(
            severity="problem",
            code="absent-labels",
            what=f"no mask has the label {', '.join(absent)}",
            fix="correct --labels or the column labels, or leave them out: masks of several labels are then "
            "listed",
        )
    only = {label: one.source.name for one, chosen in reversed(sound) if not chosen for label in one.labels}
    if differing := differing_labels(only):
        yield Finding(
            severity="problem",
            code="differing-labels",
            what=f"the masks have different labels, {', '.join(differing)}, one each",
            fix=f"find out what they mean; pass those of tumour, such as {option_text(differing)}",
            where=tuple(Where(f"{label}: {only[label]}", (only[label],)) for label in differing),
        )


def find_kept_without_lesion(survey: Survey) -> Iterator[Finding]:
    """Return the sources with empty masks that are used, except those that the data set itself calls
    healthy."""
    kept = [
        one.source.name
        for one in survey.usable
        if not one.source.is_healthy and not any(case.lesion_px for case in one.cases)
    ]
    if kept:
        yield Finding(
            severity="note",
            code="empty-mask",
            what=f"{count_noun(len(kept), survey.noun)} with an empty mask will be used without a lesion",
            fix="nothing, if the images show no lesion; else correct the masks",
            where=tuple(Where(name, (name,)) for name in kept),
        )


def find_odd_masks(survey: Survey) -> Iterator[Finding]:
    """Return findings for masks that cover nearly the complete image, and for lesions that are tiny at the
    requested size or vanish."""
    side = f"{survey.size}×{survey.size}"
    bearing = [case for case in survey.cases if case.lesion_px]
    full = [case for case in bearing if case.share > FULL_MASK]
    if full:
        yield Finding(
            severity="problem",
            code=FULL_MASK_CODE,
            what=f"{count_noun(len(full), 'mask covers', 'masks cover')} more than {FULL_MASK:.0%} "
            "of the image",
            fix="check whether lesion and background are swapped",
            where=name_cases(full, lambda case: f"{case.share:.1%}"),
        )
    gone = [case for case in bearing if not case.lesion_px_at_size]
    if gone:
        yield Finding(
            severity="note",
            code="vanishing-lesion",
            what=f"{count_noun(len(gone), 'lesion vanishes', 'lesions vanish')} at {side} "
            "and will be left out",
            fix="use a larger --size",
            where=name_cases(gone, lambda case: f"{case.lesion_px} px of {case.shape[0]}×{case.shape[1]}"),
        )
    tiny = [case for case in bearing if 0 < case.lesion_px_at_size < TINY_PX]
    if tiny:
        yield Finding(
            severity="note",
            code="tiny-lesion",
            what=f"{count_noun(len(tiny), 'image')} with less than {TINY_PX} px of lesion at {side}",
            fix="check whether these are stray pixels of a mask; a larger --size keeps more of small lesions",
            where=name_cases(tiny, lambda case: f"{case.lesion_px_at_size} px"),
        )
