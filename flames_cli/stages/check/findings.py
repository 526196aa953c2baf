"""Findings of check in one data set: each states what was found, where, and what to do."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from flames_cli.readers.base import EMPTY_MASK, NO_LESION, Source
from flames_cli.stages.check.amounts import (
    find_absent_sets,
    find_few_patients,
    find_lost_sites,
    find_no_lesions,
)
from flames_cli.stages.check.clipping import advise_wider, clipped_parts, find_clipped
from flames_cli.stages.check.equal_masks import find_equal_masks
from flames_cli.stages.check.inspection import CaseFigures
from flames_cli.stages.check.intensities import find_ct_windows, find_odd_levels
from flames_cli.stages.check.masks import find_kept_without_lesion, find_labels, find_odd_masks
from flames_cli.stages.check.spellings import find_spellings
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun, name_cases
from flames_cli.stages.raw import kind_of

# These limits are our own choice.
FAINT = 0.01
"""Share of the window: an image with a smaller standard deviation shows hardly anything."""

LESION_FREE = (EMPTY_MASK, NO_LESION)
"""Reasons that readers give for images without a lesion."""
FIX_EMPTY = (
    "nothing, if the images show no lesion, or --empty keep to train and test on them; else correct the masks"
)


def find_all(survey: Survey) -> list[Finding]:
    """Return all findings of one data set by itself; `find_copies` finds copies."""
    finders = (
        _unreadable,
        _left_out,
        find_kept_without_lesion,
        find_labels,
        _remarks,
        _odd_images,
        find_odd_masks,
        _mixed,
        find_spellings,
        _divided_patients,
        find_few_patients,
        find_no_lesions,
        find_lost_sites,
        find_absent_sets,
        _other_count,
        find_clipped,
        find_ct_windows,
        find_equal_masks,
        _unused_columns,
        find_odd_levels,
    )
    return [finding for find in finders for finding in find(survey)]


def _unreadable(survey: Survey) -> Iterator[Finding]:
    bad = [one for one in survey.inspected if one.bad]
    if bad:
        yield Finding(
            severity="problem",
            code="unreadable",
            what=f"{count_noun(len(bad), survey.noun)} cannot be trusted",
            fix="correct the files, or pass the option that a line names; "
            "`flames preprocess --skip-bad` leaves them out, except masks whose labels are not chosen",
            where=tuple(Where(one.bad, (one.source.name,)) for one in bad),
        )


def _left_out(survey: Survey) -> Iterator[Finding]:
    reasons: dict[str, list[str]] = {}
    for one in survey.inspected:
        if one.skipped:
            reasons.setdefault(one.skipped, []).append(one.source.name)
    for reason, names in reasons.items():
        yield Finding(
            severity="note",
            code="empty-mask" if reason in LESION_FREE else "left-out",
            what=f"{count_noun(len(names), survey.noun)} will be left out: {reason}",
            fix=FIX_EMPTY if reason in LESION_FREE else "nothing, unless the images show a lesion",
            where=tuple(Where(name, (name,)) for name in names),
        )


def _remarks(survey: Survey) -> Iterator[Finding]:
    said: dict[str, list[str]] = {}
    for one in survey.inspected:
        for remark in one.remarks:
            said.setdefault(remark, []).append(one.source.name)
    for remark, names in said.items():
        yield Finding(
            severity="note",
            code="remark",
            what=f"{count_noun(len(names), survey.noun)}: {remark}",
            fix="compare the pictures of these images with their masks",
            where=tuple(Where(name, (name,)) for name in names),
        )


def _odd_images(survey: Survey) -> Iterator[Finding]:
    # A slice without a lesion may well be constant: the first and last slices of a volume often are.
    # Images that become white or black are in the finding for their window, which has other advice; those of
    # one value in the file stay here.
    clipped = {id(one) for losses in clipped_parts(survey) for one, _ in losses.sources}
    cases = [
        case
        for one in survey.inspected
        for case in one.cases
        if (one.look is not None or case.lesion_px)
        and not (id(one) in clipped and case.clipping and case.clipping.tissue_px)
    ]
    flat = [case for case in cases if case.intensity.sd == 0]
    look = "replace the files; for slices and 16-bit images, check --window and the position of the mask"
    for code, what, chosen in (
        ("black-image", "all black", [case for case in flat if case.level <= 0]),
        ("constant-image", "of one value throughout", [case for case in flat if case.level > 0]),
    ):
        if chosen:
            yield Finding(
                severity="problem", code=code, what=_are(chosen, what), fix=look, where=name_cases(chosen)
            )
    faint = [case for case in cases if 0 < case.contrast < FAINT]
    if faint:
        wider = advise_wider(survey, FAINT)
        yield Finding(
            severity="problem" if wider else "note",
            code="faint-image",
            what=_are(faint, f"nearly of one value (sd below {FAINT:.0%} of the window)"),
            fix=wider or look,
            where=name_cases(faint, lambda case: f"sd {case.contrast:.2%}"),
        )


def _mixed(survey: Survey) -> Iterator[Finding]:
    """Return the kinds of images that preprocess does not put into one file."""
    depths: dict[tuple[str, str], dict[tuple[int, int], list[str]]] = {}
    for one in survey.usable:
        own = depths.setdefault(kind_of(survey.reader, one.source), {})
        own.setdefault(one.cases[0].depth, []).append(one.source.name)
    for kind, by_depth in depths.items():
        if len(by_depth) > 1:
            yield Finding(
                severity="problem",
                code="mixed-depths",
                what=f"{' '.join(kind)} has {len(by_depth)} depths, expected one per data set",
                fix="put each into a data set of its own",
                where=tuple(
                    Where(
                        f"{channels} channel(s) of 0..{top}: {count_noun(len(names), survey.noun)}",
                        (names[0],),
                        (f"{' '.join(kind)} {channels}x{top}",),
                    )
                    for (channels, top), names in by_depth.items()
                ),
            )


def _divided_patients(survey: Survey) -> Iterator[Finding]:
    checks: list[tuple[str, str, Callable[[Source], str]]] = [
        ("sites", "two clients would share a patient", lambda source: source.site),
        ("sets", "a test set would share a patient with training", lambda source: source.fixed_set),
    ]
    if survey.reader.knows_patients:
        checks.append(("classes", "one of them may be wrong", lambda source: source.stratum))
    for what, why, place in checks:
        divided = _find_divided([one.source for one in survey.inspected], place)
        if divided:
            yield Finding(
                severity="problem",
                code=f"patient-in-two-{what}",
                what=f"{count_noun(len(divided), 'patient')} in two {what}: {why}",
                fix="check whether two people have the same name; "
                f"else put all {survey.noun}s of a patient in one place",
                where=divided,
            )


def _find_divided(sources: Iterable[Source], place: Callable[[Source], str]) -> tuple[Where, ...]:
    places: dict[str, dict[str, str]] = {}
    for source in sources:
        if place(source):
            places.setdefault(source.patient, {}).setdefault(place(source), source.name)
    return tuple(
        Where(f"{patient}: {', '.join(found)}", tuple(found.values()), (patient,))
        for patient, found in places.items()
        if len(found) > 1
    )


def _other_count(survey: Survey) -> Iterator[Finding]:
    complete = survey.reader.complete
    found = sum(bool(one.source.masks) and not one.source.is_healthy for one in survey.inspected)
    if complete and found != complete:
        yield Finding(
            severity="note",
            code="other-count",
            what=f"{found:,} {survey.noun}s with a mask; the complete download has {complete:,}",
            fix="nothing, if you want only a part; else download it again",
        )


def _unused_columns(survey: Survey) -> Iterator[Finding]:
    if survey.unused_columns:
        yield Finding(
            severity="note",
            code="unused-columns",
            what=f"columns of the manifest that are not used: {', '.join(survey.unused_columns)}",
            fix="nothing, unless FLAMES should read one: then give it the name that docs/datasets.md lists",
        )


def _are(cases: Sequence[CaseFigures], what: str) -> str:
    return f"{count_noun(len(cases), 'image is', 'images are')} {what}"
