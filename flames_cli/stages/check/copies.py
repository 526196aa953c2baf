"""Copies of pictures, within a data set or between data sets that are checked together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flames_cli.core.imaging.near_duplicates import (
    COPY_BITS,
    NEAR_BITS,
    PHASH_SIZE,
    cluster_by_marks,
    find_series_links,
)
from flames_cli.core.imaging.quality import nearest_links
from flames_cli.core.scores.metrics import Counts, count_pixels
from flames_cli.readers.pairs import natural_order
from flames_cli.stages.check.inspection import Inspected, unpack_mask
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun

# Dice of two masks below which copies contradict each other; our own choice. Equal pictures should have equal
# masks; a cropped copy, or one marked by another person, reaches almost 1.
EQUAL_DICE = 0.9
ALIKE_DICE = 0.5

CONTRADICTIONS = {
    "data sets": "if they are one picture, remove one: data sets are split one by one, so it could be "
    "trained on and tested",
    "sites": "if they are one picture, remove one: two clients would share it",
    "sets": "if they are one picture, remove one: a test set would share it with training",
    "patients": "if they are one picture, give both the same patient, or remove one; preprocess keeps such "
    "patients in one set",
    "classes": "if they are one picture, find out which class is right and remove the other",
}
"""Properties in which copies must not differ, and the advice if they do."""

LOOK = "look at both pictures: "
ACCEPT = "; if they are two, accept the finding with --accept"


@dataclass(frozen=True, slots=True)
class ComparedSource:
    """Source that is compared with others."""

    survey: Survey
    inspected: Inspected

    def name_in(self, survey: Survey) -> str:
        """Return its name, after the name of its data set if that is not `survey`."""
        own = self.inspected.source.name
        return own if self.survey is survey else f"{self.survey.name}: {own}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sources that show the same picture, or nearly the same."""

    first: ComparedSource
    second: ComparedSource
    bits: int
    """Number of different bits of their perceptual hashes; -1: equal pixel for pixel."""
    dice: float
    """Dice of their masks."""

    @property
    def is_copy(self) -> bool:
        """True for the same picture, perhaps saved again; False for a neighbouring picture."""
        return self.bits <= COPY_BITS

    @property
    def is_in_series(self) -> bool:
        """True for two pictures that are joined only since their numbers in a series are near."""
        return self.bits > NEAR_BITS

    @property
    def masks_disagree(self) -> bool:
        """True for two copies with different masks."""
        return self.is_copy and self.dice < (EQUAL_DICE if self.bits < 0 else ALIKE_DICE)

    @property
    def contradictions(self) -> dict[str, tuple[str, str]]:
        """Properties of CONTRADICTIONS in which the two differ."""
        one, other = self.first.inspected.source, self.second.inspected.source
        if self.first.survey is not self.second.survey:
            return {"data sets": (self.first.survey.name, self.second.survey.name)}
        known = self.first.survey.reader.knows_patients
        pairs = {
            "sites": (one.site, other.site),
            "sets": (one.fixed_set, other.fixed_set),
            "patients": (one.patient, other.patient) if known else ("", ""),
            "classes": (one.stratum, other.stratum),
        }
        return {what: both for what, both in pairs.items() if all(both) and both[0] != both[1]}

    def where(self, survey: Survey, what: str = "") -> Where:
        """Return the pair as a place of a finding of `survey`."""
        names = (self.first.name_in(survey), self.second.name_in(survey))
        relation = "=" if self.bits < 0 else "≈"
        how = "equal pixel for pixel" if self.bits < 0 else f"{self.bits} of {PHASH_SIZE**2} bits apart"
        differ = self.contradictions
        differences = [" and ".join(differ[what])] if what in differ else [f"two {one}" for one in differ]
        details = [*differences, how, f"Dice of the masks {self.dice:.2f}"]
        return Where(f"{names[0]} {relation} {names[1]} ({', '.join(details)})", names, self._ids)

    @property
    def _ids(self) -> tuple[str, ...]:
        """The names in its id, which is the same in the reports of both data sets."""
        both, one_set = (self.first, self.second), self.first.survey is self.second.survey
        return tuple(
            one.inspected.source.name if one_set else f"{one.survey.name}: {one.inspected.source.name}"
            for one in both
        )


def find_pairs(surveys: Sequence[Survey]) -> list[Pair]:
    """Return the pairs that connect every set of copies: one pair fewer than it has sources.

    Still images are compared by pixels and by perceptual hash, volumes by the pixels of each slice. Images
    that are only near, or near in a series, count if the data set names no patients, as in preprocess. The
    pairs, and so their ids, do not depend on the order of the sources.
    """
    compared = [ComparedSource(survey, one) for survey in surveys for one in survey.usable]
    compared.sort(key=lambda one: (one.survey.name, natural_order(one.inspected.source.name)))
    links = [(*link, -1) for link in _equal(compared)]
    copies = {second for _, second, _ in links}
    shown = [
        index for index, one in enumerate(compared) if index not in copies and one.inspected.look is not None
    ]
    links += _alike(compared, shown, -1, COPY_BITS)
    nameless = [index for index in shown if not compared[index].survey.reader.knows_patients]
    links += _alike(compared, nameless, COPY_BITS, NEAR_BITS)
    links += _in_series(compared, nameless)
    pairs = (Pair(compared[a], compared[b], bits, _dice(compared[a], compared[b])) for a, b, bits in links)
    return [pair for pair in pairs if not _is_expected(pair)]


def _equal(compared: Sequence[ComparedSource]) -> Iterator[tuple[int, int]]:
    marks = {
        str(index): {case.digest for case in one.inspected.cases if case.digest}
        for index, one in enumerate(compared)
    }
    return ((int(first), int(index)) for index, first in cluster_by_marks(marks).items() if index != first)


def _alike(
    compared: Sequence[ComparedSource], chosen: Sequence[int], above: int, most: int
) -> list[tuple[int, int, int]]:
    """Return the links of more than `above` and at most `most` bits between the sources `chosen`."""
    looks = [look for index in chosen if (look := compared[index].inspected.look) is not None]
    links = nearest_links(np.stack(looks), most) if len(looks) > 1 else []
    return [(chosen[link.first], chosen[link.second], link.bits) for link in links if link.bits > above]


def _in_series(compared: Sequence[ComparedSource], chosen: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the links of more than NEAR_BITS between sources of one series whose numbers are near."""
    looks, places = [], []
    for one in (compared[index] for index in chosen):
        look, place = one.inspected.look, one.inspected.source.place_in_series
        if look is not None:
            looks.append(look)
            places.append((f"{one.survey.name} {place[0]}", place[1]) if place else None)
    links = find_series_links(np.stack(looks), places) if looks else []
    return [(chosen[first], chosen[second], bits) for first, second, bits in links if bits > NEAR_BITS]


def _is_expected(pair: Pair) -> bool:
    """Return whether the two may look alike: two images of one patient, or of one sequence."""
    one, other = pair.first, pair.second
    together = one.survey is other.survey and one.inspected.source.patient == other.inspected.source.patient
    return together and pair.bits >= 0


def _dice(one: ComparedSource, other: ComparedSource) -> float:
    """Return the Dice of the two still images' masks, or over all slices that two volumes share."""
    size = one.survey.size
    cases, others = one.inspected.cases, other.inspected.cases
    if len(cases) == len(others) == 1:
        matched = [(cases[0], others[0])]
    else:
        by_digest = {case.digest: case for case in others if case.digest}
        matched = [(case, by_digest[case.digest]) for case in cases if case.digest in by_digest]
    counts = [count_pixels(unpack_mask(a, size), unpack_mask(b, size)) for a, b in matched]
    return Counts(
        sum(one.true_positive for one in counts),
        sum(one.false_positive for one in counts),
        sum(one.false_negative for one in counts),
        0,
    ).dice()


def _unit(survey: Survey, what: str) -> str:
    """Return the word for `what`: the patients of some data sets are sequences of frames."""
    return "sequences" if what == "patients" and survey.reader.patient_unit == "sequence" else what


def find_copies(survey: Survey, pairs: Iterable[Pair]) -> Iterator[Finding]:
    """Return the findings that `pairs` give for one data set."""
    own = [pair for pair in pairs if survey in (pair.first.survey, pair.second.survey)]
    copies = [pair for pair in own if pair.is_copy]
    for what, fix in CONTRADICTIONS.items():
        if divided := [pair for pair in copies if what in pair.contradictions]:
            yield Finding(
                severity="problem",
                code=f"copies-across-{what.replace(' ', '-')}",
                what=f"{count_noun(len(divided), 'picture is', 'pictures are')} present twice, "
                f"in two {_unit(survey, what)}",
                fix=LOOK + fix + ACCEPT,
                where=tuple(pair.where(survey, what) for pair in divided),
            )
    if differ := [pair for pair in copies if pair.masks_disagree]:
        yield Finding(
            severity="problem",
            code="copies-with-other-masks",
            what=f"{count_noun(len(differ), 'picture is', 'pictures are')} present twice "
            "with masks that disagree",
            fix=f"{LOOK}find out which mask is right, and remove the other with its image{ACCEPT}",
            where=tuple(pair.where(survey) for pair in differ),
        )
    if plain := [pair for pair in copies if not pair.contradictions and not pair.masks_disagree]:
        yield Finding(
            severity="note",
            code="copies",
            what=f"{count_noun(len(plain), 'picture is', 'pictures are')} present twice",
            fix="nothing: preprocess leaves equal pictures out and keeps the others in one set",
            where=tuple(pair.where(survey) for pair in plain),
        )
    if series := [pair for pair in own if pair.is_in_series]:
        yield Finding(
            severity="note",
            code="near-in-series",
            what=f"{count_noun(len(series), 'pair')} of pictures with near numbers that look alike, "
            "perhaps of one patient",
            fix="nothing: preprocess keeps them in one set",
            where=tuple(pair.where(survey) for pair in series),
        )
    if near := [pair for pair in own if not pair.is_copy and not pair.is_in_series]:
        yield Finding(
            severity="note",
            code="near-copies",
            what=f"{count_noun(len(near), 'pair')} of pictures that look like neighbouring frames "
            "of one lesion",
            fix="nothing to do within a data set: preprocess keeps them in one set",
            where=tuple(pair.where(survey) for pair in near),
        )
