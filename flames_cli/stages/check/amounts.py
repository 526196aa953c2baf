"""Data sets with too few patients or without lesions, and sites of which nothing is used."""

from collections.abc import Iterator

from flames_cli.core.patient_units import NOUNS, count_units
from flames_cli.stages.check.inspection import Inspected
from flames_cli.stages.check.survey import Finding, Survey, Where, count_noun
from flames_cli.stages.raw import Kind, kind_of

FEWEST_PATIENTS = 3
"""Smallest number of patients: one each to train, to test the clients and to test the server."""


def find_few_patients(survey: Survey) -> Iterator[Finding]:
    """Return the data sets, of one modality and organ each, that have too few patients for all sets."""
    patients: dict[Kind, set[str]] = {}
    for one in survey.inspected:
        own = patients.setdefault(kind_of(survey.reader, one.source), set())
        if any(case.is_used for case in one.cases):
            own.add(one.source.patient)
    unit = survey.reader.patient_unit
    few = {" ".join(kind): len(own) for kind, own in patients.items() if len(own) < FEWEST_PATIENTS}
    if not few:
        return
    counts = {name: count_units(count, unit, "usable") for name, count in few.items()}
    where: tuple[Where, ...] = ()
    found, each = "".join(counts.values()), ""
    if len(patients) > 1:
        found = f"{len(few)} of {len(patients)} data sets with fewer than {FEWEST_PATIENTS} {NOUNS[unit]}"
        each = " of each modality and organ"
        where = tuple(Where(f"{name}: {count}", names=(name,)) for name, count in counts.items())
    yield Finding(
        severity="problem",
        code="few-patients",
        what=f"{found}, too few for training and tests",
        fix=f"add {NOUNS[unit]}: at least {FEWEST_PATIENTS}{each}",
        where=where,
    )


def find_no_lesions(survey: Survey) -> Iterator[Finding]:
    """Return the data sets in which no image has a lesion, which --empty keep permits."""
    areas: dict[Kind, int] = {}
    for one in survey.usable:
        kind = kind_of(survey.reader, one.source)
        areas[kind] = areas.get(kind, 0) + sum(case.lesion_px for case in one.cases)
    if none := [" ".join(kind) for kind, area in areas.items() if not area]:
        yield Finding(
            severity="problem",
            code="no-lesions",
            what=f"{count_noun(len(none), 'data set')} without any lesion, from which no model learns",
            fix="correct the masks, or add images with lesions",
            where=tuple(Where(name, names=(name,)) for name in none),
        )


def find_absent_sets(survey: Survey) -> Iterator[Finding]:
    """Return the sets to which a manifest's column `split` assigns no usable patient."""
    usable = (one for one in survey.inspected if any(case.is_used for case in one.cases))
    named = {one.source.fixed_set for one in usable} - {""}
    absent = [name for name in ("client_train", "client_test", "server_test") if name not in named]
    if named and absent:
        yield Finding(
            severity="problem" if "client_train" in absent else "note",
            code="empty-sets",
            what=f"the column split names no usable patient for {', '.join(absent)}",
            fix="add some; preprocess goes on without tests with --test-fraction 0 (client_test) and "
            "--server-test 0 (server_test)",
        )


def find_lost_sites(survey: Survey) -> Iterator[Finding]:
    """Return the sites of which no image is used: a client would be missing."""
    sites: dict[str, list[Inspected]] = {}
    for one in survey.inspected:
        if one.source.site:
            sites.setdefault(one.source.site, []).append(one)
    lost = [site for site, own in sites.items() if not any(case.is_used for one in own for case in one.cases)]
    if lost:
        yield Finding(
            severity="note",
            code="site-left-out",
            what=f"{count_noun(len(lost), 'site')} without any usable image",
            fix="correct the files and masks of these sites; without images they cannot be clients",
            where=tuple(
                Where(f"{site}: all {count_noun(len(sites[site]), survey.noun)} left out", names=(site,))
                for site in lost
            ),
        )
