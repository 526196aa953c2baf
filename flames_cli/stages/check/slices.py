"""Still images that are slices of volumes which are checked at the same time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flames_cli.core.imaging.near_duplicates import PHASH_SIZE, find_turned_copies
from flames_cli.readers.formats.ranges import family_of
from flames_cli.stages.check.copies import ACCEPT, ComparedSource
from flames_cli.stages.check.inspection import CaseFigures, unpack_hashes
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun


@dataclass(frozen=True, slots=True)
class SharedSlice:
    """The nearest still image and slice of one patient's still images and one volume."""

    still: ComparedSource
    volume: ComparedSource
    slice: CaseFigures
    bits: int
    """Number of different bits of their perceptual hashes."""
    images: int
    """Number of the patient's still images that are slices of the volume."""

    @property
    def crosses(self) -> str:
        """Property that differs: `data sets`, or `patients` within a data set."""
        return "patients" if self.still.survey is self.volume.survey else "data sets"

    def where(self, survey: Survey) -> Where:
        """Return it as a place of a finding of `survey`; its id names the patient and the volume."""
        prefix = "" if self.volume.survey is survey else f"{self.volume.survey.name}: "
        cases = (self.still.name_in(survey), self.volume.name_in(survey))
        details = (
            f"{self.bits} of {PHASH_SIZE**2} bits apart, {count_noun(self.images, 'image')} of the patient"
        )
        owners = (
            (self.still.survey, self.still.inspected.source.patient),
            (self.volume.survey, self.volume.inspected.source.name),
        )
        names = tuple(f"{owner.name}: {name}" for owner, name in owners)
        return Where(f"{cases[0]} ≈ slice {prefix}{self.slice.name} ({details})", cases, names)


def has_both(surveys: Sequence[Survey]) -> dict[str, tuple[list[ComparedSource], list[ComparedSource]]]:
    """Return the still images and the volumes of every modality that has both; all CT counts as one."""
    found: dict[str, tuple[list[ComparedSource], list[ComparedSource]]] = {}
    for survey in surveys:
        for one in survey.usable:
            family = family_of(survey.part_of(one.source).modality)
            found.setdefault(family, ([], []))[one.look is None].append(ComparedSource(survey, one))
    return {modality: both for modality, both in found.items() if all(both)}


def find_shared_slices(surveys: Sequence[Survey]) -> list[SharedSlice]:
    """Return the still images that are slices of volumes of the same modality and of another data set or
    patient."""
    found: list[SharedSlice] = []
    for stills, volumes in has_both(surveys).values():
        slices = [
            (volume, case) for volume in volumes for case in volume.inspected.cases if case.packed_hashes
        ]
        shown = [still for still in stills if still.inspected.cases[0].packed_hashes]
        if shown and slices:
            found += _compare(shown, slices)
    return found


def _compare(
    stills: Sequence[ComparedSource], slices: Sequence[tuple[ComparedSource, CaseFigures]]
) -> Iterator[SharedSlice]:
    looks = np.concatenate([unpack_hashes(still.inspected.cases[0]) for still in stills])
    pairs: dict[tuple[str, str, str, str], list[tuple[int, int, int]]] = {}
    for image, index, bits in find_turned_copies(
        looks, np.stack([unpack_hashes(case) for _, case in slices])
    ):
        still, volume = stills[image], slices[index][0]
        one, other = still.inspected.source, volume.inspected.source
        if still.survey is not volume.survey or one.patient != other.patient:
            key = (still.survey.name, one.patient, volume.survey.name, other.name)
            pairs.setdefault(key, []).append((bits, image, index))
    for own in pairs.values():
        bits, image, index = min(own)
        volume, case = slices[index]
        yield SharedSlice(stills[image], volume, case, bits, len({image for _, image, _ in own}))


FIXES = {
    "data sets": "if they are one patient, use one of the two: data sets are split one by one, so the "
    "patient could be in training and in a test",
    "patients": "if they are one patient, give both the same patient",
}


def find_slices(survey: Survey, shared: Sequence[SharedSlice]) -> Iterator[Finding]:
    """Return the findings that `shared` gives for one data set."""
    for what, fix in FIXES.items():
        own = [
            one for one in shared if one.crosses == what and survey in (one.still.survey, one.volume.survey)
        ]
        if own:
            yield Finding(
                severity="problem",
                code=f"slices-across-{what.replace(' ', '-')}",
                what=f"{count_noun(len(own), 'volume contains', 'volumes contain')} slices that are also "
                f"still images, in two {what}",
                fix=f"look at both pictures: {fix}{ACCEPT}",
                where=tuple(one.where(survey) for one in own),
            )


def describe_comparisons(survey: Survey, surveys: Sequence[Survey]) -> list[str]:
    """Return what the images of `survey` were compared with, as sentences of the report."""
    lines = []
    for still, noun, method in (
        (True, "still image", "pixels and by perceptual hash"),
        (False, "volume", "the pixels of their slices"),
    ):
        counts = {one.name: sum((o.look is not None) == still for o in one.usable) for one in surveys}
        if own := counts.pop(survey.name):
            others = ", ".join(name for name, n in counts.items() if n)
            among = f"with each other{' and with those of ' + others if others else ''}"
            lines.append(f"{count_noun(own, noun)} {among}, by {method}")
    for modality, (images, scans) in has_both(surveys).items():
        if any(one.survey is survey for one in (*images, *scans)):
            slices = sum(bool(case.packed_hashes) for one in scans for case in one.inspected.cases)
            lines.append(
                f"{count_noun(len(images), 'still image')} of {modality} with {count_noun(slices, 'slice')} "
                "of volumes that have a lesion, in 8 orientations, by perceptual hash"
            )
    return lines
