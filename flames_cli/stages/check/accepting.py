"""Problems of check that the user accepts: they become notes with the user's reasons."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from flames_cli.stages.check.survey import Finding, Where, count_noun

FIX = "nothing: the file of --accept gives the reasons"


def accept_findings(findings: Iterable[Finding], accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Return `findings`, with the places of problems whose ids are in `accepted` moved to notes."""
    for finding in findings:
        left, moved = _part(finding, accepted)
        if finding.severity != "problem" or not moved:
            yield finding
            continue
        if left:
            yield replace(finding, what=f"{finding.what} ({len(moved)} of them accepted)", where=left)
        what = f"accepted, {len(moved)} of: {finding.what}" if left else f"accepted: {finding.what}"
        yield replace(finding, severity="note", what=what, fix=FIX, where=moved)


def _part(finding: Finding, accepted: Mapping[str, str]) -> tuple[tuple[Where, ...], tuple[Where, ...]]:
    """Return the places that are left, and those that are accepted. A finding without places has one."""
    left, moved = [], []
    for place in finding.where or (Where(""),):
        if reason := accepted.get(finding.id_of(place)):
            text = f"{place.text} (reason: {reason})" if place.text else f"reason: {reason}"
            moved.append(place._replace(text=text, accepted=reason))
        else:
            left.append(place)
    return tuple(left), tuple(moved)


def find_outdated(findings: Iterable[Finding], accepted: Mapping[str, str]) -> Iterator[Finding]:
    """Return a note on the ids in `accepted` that no finding has."""
    found = {one for finding in findings for one in finding.ids}
    if gone := [one for one in accepted if one not in found]:
        yield Finding(
            severity="note",
            code="accepted-but-absent",
            what="the file of --accept accepts "
            f"{count_noun(len(gone), 'finding that is', 'findings that are')} not there",
            fix="remove these entries from the file, or correct their ids",
            where=tuple(Where(one, names=(one,)) for one in gone),
        )


def count_accepted(findings: Sequence[Finding]) -> int:
    """Return the number of accepted places."""
    return sum(bool(place.accepted) for finding in findings for place in finding.where)
