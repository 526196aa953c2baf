"""Survey of a data set: all its sources as check sees them, and the findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from flames_cli.readers.base import Reader, ReadOptions, Source
from flames_cli.stages.acceptance import make_id
from flames_cli.stages.check.inspection import CaseFigures, Inspected
from flames_cli.stages.raw import kind_of


class Where(NamedTuple):
    """One place of a finding."""

    text: str
    cases: tuple[str, ...] = ()
    """Cases whose pictures show it."""
    names: tuple[str, ...] = ()
    """Names in its id, if they are not those of the cases, such as the patient's."""
    accepted: str = ""
    """Reason for which the user accepts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Fault to correct (problem) or fact to know (note)."""

    severity: Literal["problem", "note"]
    code: str
    what: str
    fix: str
    where: tuple[Where, ...] = ()

    def id_of(self, place: Where) -> str:
        """Return the id of one of its places, with which a user accepts it."""
        return make_id(self.code, place.names or place.cases)

    @property
    def ids(self) -> list[str]:
        """The ids of its places, in order; the code, if it has no places."""
        return [self.id_of(place) for place in self.where] or [self.code]

    @property
    def is_accepted(self) -> bool:
        """True if the user accepts it with all its places."""
        return bool(self.where) and all(place.accepted for place in self.where)

    def as_json(self) -> dict[str, Any]:
        """Return the finding as it is in the report."""
        where = [
            {
                "id": self.id_of(place),
                "text": place.text,
                "cases": list(place.cases),
                **({"accepted": place.accepted} if place.accepted else {}),
            }
            for place in self.where
        ]
        head = {"severity": self.severity, "code": self.code, "what": self.what, "fix": self.fix}
        return {**head, **({} if where else {"id": self.code}), "count": len(where), "where": where}


class Part(NamedTuple):
    """Sources that can be compared: one modality and organ, at one site."""

    modality: str
    organ: str
    site: str


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """All sources of one data set, inspected."""

    reader: Reader
    name: str
    size: int
    inspected: Sequence[Inspected]
    options: ReadOptions = field(default_factory=ReadOptions)
    """Options with which they were read."""
    unused_columns: tuple[str, ...] = ()
    """Columns of a manifest that are not read."""

    @property
    def noun(self) -> str:
        """The word for a source; a manifest may contain both kinds."""
        nouns = {"volume" if one.look is None else "image" for one in self.usable}
        if not nouns:
            return "image" if self.reader.is_still else "volume"
        return nouns.pop() if len(nouns) == 1 else "file"

    @property
    def usable(self) -> list[Inspected]:
        """The sources that gave cases."""
        return [one for one in self.inspected if one.cases]

    def part_of(self, source: Source) -> Part:
        """Return the part to which `source` belongs."""
        return Part(*kind_of(self.reader, source), source.site)

    def parts(self) -> dict[Part, list[Inspected]]:
        """The usable sources by part, in alphabetical order."""
        parts: dict[Part, list[Inspected]] = {}
        for one in self.usable:
            parts.setdefault(self.part_of(one.source), []).append(one)
        return dict(sorted(parts.items()))

    @property
    def cases(self) -> list[CaseFigures]:
        """The cases of all sources."""
        return [case for one in self.inspected for case in one.cases]


def count_noun(n: int, one: str, many: str = "") -> str:
    """Return `n` with its noun: 1 image, 2 images."""
    return f"{n:,} {one}" if n == 1 else f"{n:,} {many or one + 's'}"


def name_cases(
    cases: Sequence[CaseFigures], detail: Callable[[CaseFigures], str] = lambda _: ""
) -> tuple[Where, ...]:
    """Return each of `cases` as a place, with what `detail` says about it."""
    texts = [f"{case.name}: {detail(case)}".removesuffix(": ") for case in cases]
    return tuple(Where(text, (case.name,)) for text, case in zip(texts, cases, strict=True))
