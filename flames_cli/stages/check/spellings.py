"""Findings of check about ids of patients that may be two spellings of one id."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from flames_cli.core.patient_names import normal_form
from flames_cli.readers.base import Source
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun
from flames_cli.stages.raw import find_alike_ids

FORM = "case, leading zeros, blanks, signs between letters and digits, or look-alike letters"


def find_spellings(survey: Survey) -> Iterator[Finding]:
    """Return a problem for ids of patients that are alike, and a note where every spelling has its own site.

    Two sites may have numbered their patients by themselves, in two ways of writing.
    """
    sources_of: dict[str, list[Source]] = {}
    for one in survey.inspected:
        sources_of.setdefault(one.source.patient, []).append(one.source)
    alike = find_alike_ids(survey.reader, [one.source for one in survey.inspected])
    apart = [group for group in alike if _at_different_sites([sources_of[one] for one in group])]
    if together := [group for group in alike if group not in apart]:
        yield Finding(
            severity="problem",
            code="ids-alike",
            what=f"{count_noun(len(together), 'group')} of ids that differ only in {FORM}",
            fix="give one person one id; preprocess keeps such patients in one set",
            where=_places(together, sources_of),
        )
    if apart:
        yield Finding(
            severity="note",
            code="ids-alike-at-two-sites",
            what=f"{count_noun(len(apart), 'group')} of ids at different sites that differ only in {FORM}",
            fix="give one person one id; put the name of the site before the ids of different people, since "
            "preprocess keeps patients with such ids in one set",
            where=_places(apart, sources_of),
        )


def _at_different_sites(listed: Sequence[Sequence[Source]]) -> bool:
    """Return whether no two of the lists of sources have a site in common; a missing site counts as one."""
    sites = [{source.site for source in sources} for sources in listed]
    return len(set().union(*sites)) == sum(map(len, sites))


def _places(groups: Sequence[Sequence[str]], sources_of: Mapping[str, Sequence[Source]]) -> tuple[Where, ...]:
    return tuple(
        Where(
            " and ".join(f"{_show(one)} in {_list_files(sources_of[one])}" for one in group),
            tuple(sources_of[one][0].name for one in group),
            tuple(group),
        )
        for group in groups
    )


def _show(patient: str) -> str:
    """Return the id in quotes, with the name of a character that looks like an ASCII one."""
    for char in patient:
        if not char.isascii() and normal_form(char).isascii():
            return f"'{patient}' (with U+{ord(char):04X} {unicodedata.name(char, 'without a name')})"
    return f"'{patient}'"


def _list_files(sources: Sequence[Source]) -> str:
    others = len(sources) - 1
    return sources[0].name + (f" and {count_noun(others, 'other')}" if others else "")
