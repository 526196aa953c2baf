"""Pseudonyms: the names of patients and cases in every file, and the site's own table that maps them back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flames_cli.stages.preprocess.sources import Gathered, join_name
from flames_cli.store.files.atomic import write_private_csv
from flames_cli.store.h5 import SpooledCase

HEADER = ("pseudonym", "name", "patient", "source", "what", "why")


def call_cases(cases: Iterable[SpooledCase], pseudonym_of: Mapping[str, str]) -> list[SpooledCase]:
    """Return `cases` under their new names: the pseudonym, and the case's name among its patient's cases."""
    return [
        replace(
            case,
            info=replace(
                case.info,
                case=join_name(pseudonym_of[case.info.patient], case.info.case),
                patient=pseudonym_of[case.info.patient],
                split_unit=pseudonym_of[case.info.split_unit],
            ),
        )
        for case in cases
    ]


def call_source(part: Gathered, name: str, pseudonym_of: Mapping[str, str], place: str = "") -> str:
    """Return the new name of the source that the raw data call `name`, or of its slice at `place`."""
    own = part.listed[name]
    return join_name(pseudonym_of[own.source.patient], own.number, place)


def write_table(path: Path, part: Gathered, pseudonym_of: Mapping[str, str]) -> None:
    """Write the table that maps pseudonyms to patients: every source of `part` by its own name, with the
    reason if it was left out."""
    write_private_csv(path, HEADER, list(_rows(part, pseudonym_of)))


def _rows(part: Gathered, pseudonym_of: Mapping[str, str]) -> Iterator[Sequence[str]]:
    """Return one line per source, and one per slice that was left out of a volume that was kept."""
    copies, bad = dict(part.copies), dict(part.bad)
    skipped = {one.source: one.reason for one in part.skipped}
    for name, own in part.listed.items():
        what, why = "kept", ""
        if name in bad:
            what, why = "bad", bad[name]
        elif name in copies:
            what, why = "copy", f"of {copies[name]}"
        elif name not in part.sound:
            what, why = "skipped", skipped[name]
        pseudonym = pseudonym_of[own.source.patient]
        yield pseudonym, call_source(part, name, pseudonym_of), own.source.patient, name, what, why
    for one in part.skipped:
        if one.place:
            source = part.listed[one.source].source
            called = call_source(part, one.source, pseudonym_of, one.place)
            yield pseudonym_of[source.patient], called, source.patient, one.source, "skipped", one.reason
