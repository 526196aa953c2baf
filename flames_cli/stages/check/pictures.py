"""Small pictures of the cases, stored on disk until it is known which ones are shown."""

from collections.abc import Iterable

from flames_cli.core.imaging.quality import spread_sample
from flames_cli.report.legible import percent
from flames_cli.report.pictures import Picture
from flames_cli.stages.check.inspection import (
    CaseFigures,
    Inspected,
    Pictures,
    unpack_mask,
    unpack_picture,
)
from flames_cli.stages.check.survey import Survey
from flames_cli.store.cases import Spool

SAMPLES = 24
"""Largest number of cases on the contact sheet of a site."""


class Album:
    """Pictures of all data sets that are checked together."""

    def __init__(self, spool: Spool, size: int) -> None:
        self._spool = spool
        self._size = size
        self._kept: dict[tuple[str, str], tuple[int, CaseFigures]] = {}

    def add(self, dataset: str, inspected: Inspected, pictures: Pictures) -> None:
        """Store the pictures of one source: by case, and the picture of its largest lesion also by the
        source's name."""
        pictured = [case for case in inspected.cases if case.name in pictures]
        for case in sorted(pictured, key=lambda case: case.lesion_px):
            kept = (self._spool.add(pictures[case.name]), case)
            self._kept[dataset, case.name] = self._kept[dataset, inspected.source.name] = kept

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._kept

    def get(self, dataset: str, name: str) -> Picture:
        """Return the picture of a case or of a source."""
        number, case = self._kept[dataset, name]
        image = unpack_picture(self._spool.get(number), self._size)
        share = f"{percent(case.share)} %" if case.lesion_px else "no lesion"
        return Picture(image, unpack_mask(case, self._size), case.name, share)


def pick_samples(survey: Survey, album: Album) -> dict[str, list[str]]:
    """Return up to SAMPLES cases of each part by heading, evenly spaced in the order of their lesions'
    share."""
    parts = survey.parts()
    several = len({part[:2] for part in parts}) > 1
    sheets = {}
    for part, own in parts.items():
        cases = [case for one in own for case in one.cases if (survey.name, case.name) in album]
        chosen = spread_sample([case.share for case in cases], SAMPLES)
        heading = " ".join([*([part.organ, part.modality] if several or not part.site else []), part.site])
        sheets[heading.strip()] = [cases[index].name for index in chosen]
    return sheets


def find_pictures(names: Iterable[str], survey: Survey, album: Album) -> dict[str, Picture]:
    """Return the existing pictures of `names`: cases, sources, or `dataset: source` of another set."""
    found = {}
    for name in names:
        other, _, source = name.partition(": ")
        for key in ((survey.name, name), (other, source)):
            if key in album and name not in found:
                found[name] = album.get(*key)
    return found
