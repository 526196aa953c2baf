"""Large groups of near copies, which fill one set of the split."""

from collections import Counter
from collections.abc import Iterator

from flames_cli.stages.check.survey import Finding, Survey, Where
from flames_cli.stages.split_units import LARGE_UNIT, Pictured, find_large_units, find_units

FIX = (
    "look at the pictures: if they show one lesion or one patient, nothing; all of them are put into one "
    "set, and the shares of the sets change. If they show several patients, name the patients in a manifest: "
    "then only copies are joined"
)


def find_large_groups(survey: Survey) -> Iterator[Finding]:
    """Return a note for every group of near copies above a tenth of the images."""
    pictured = [
        Pictured(one.source, tuple(case.digest for case in one.cases if case.digest), one.look)
        for one in survey.usable
    ]
    images = Counter(one.source.patient for one in survey.usable for _ in one.cases)
    unit_of = find_units(pictured, survey.reader.knows_patients)
    for patients in find_large_units(unit_of, images).values():
        own = [one.source.name for one in survey.usable if one.source.patient in {*patients}]
        n = sum(images[patient] for patient in patients)
        yield Finding(
            severity="note",
            code="large-group",
            what=f"{n:,} of {images.total():,} images are one group of near copies, above {LARGE_UNIT:.0%}: "
            "no split divides it",
            fix=FIX,
            where=tuple(Where(name, (name,)) for name in own),
        )
