"""`flames check`: raw folders → `check/<dataset>.json` and an HTML page, with the faults of the data before
training.

The files are read once; only the figures of each case and at most a small picture are kept in memory. What
`flames preprocess` needs of them goes to the cache.
"""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

from flames_cli import __version__
from flames_cli.config import CheckConfig
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader, plugin_facts
from flames_cli.report.check_page import shown_cases, write_check_page
from flames_cli.report.legible import legible
from flames_cli.stages.acceptance import read_accepted
from flames_cli.stages.check.accepting import accept_findings, count_accepted, find_outdated
from flames_cli.stages.check.copies import find_copies, find_pairs
from flames_cli.stages.check.findings import find_all
from flames_cli.stages.check.inspection import Inspected
from flames_cli.stages.check.intensities import find_other_scales
from flames_cli.stages.check.large_units import find_large_groups
from flames_cli.stages.check.pictures import Album, find_pictures, pick_samples
from flames_cli.stages.check.slices import describe_comparisons, find_shared_slices, find_slices
from flames_cli.stages.check.survey import Finding, Survey
from flames_cli.stages.check.tables import tabulate
from flames_cli.stages.one_pass import Reading
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.raw import (
    Opened,
    check_windows,
    kind_of,
    name_datasets,
    open_cache,
    open_raw,
    read_options,
)
from flames_cli.stages.source_cache import inspect_sources
from flames_cli.store.cache import making_room
from flames_cli.store.cases import Spool
from flames_cli.store.files.atomic import finite, write_json
from flames_cli.store.schema import CHECK, stamp

NOT_READING = {
    "workspace",
    "plugins",
    "seed",
    "raw",
    "root",
    "datasets",
    "name",
    "accept",
    "workers",
    "cache",
}
"""Options that do not change the findings."""


def check(config: CheckConfig, progress: Progress = silent) -> list[dict[str, Any]]:
    """Check the raw data of every data set by itself, and all data sets for copies of each other's images.

    Returns the reports, one per data set, which are also written as JSON; `passed` is True if there are no
    problems.

    Raises:
        FlamesError: a data set is missing, or its folder is not what its reader expects. Nothing is written.
    """
    named = dict.fromkeys(get_reader(name).name for name in config.datasets)
    opened = [open_raw(config, name) for name in named]
    if len({one.name for one in opened}) < len(opened):
        raise FlamesError(f"two data sets are called {opened[-1].name}; name the manifest's with --name")
    for one in opened:
        name_datasets(one)
    accepted = read_accepted(config.accept)
    check_windows(config, (kind_of(one.reader, source)[0] for one in opened for source in one.sources))
    with Spool(config.workspace) as spool:
        album = Album(spool, config.size)
        hash_slices = _may_have_both(opened)
        surveys = [_survey(one, config, hash_slices, album, progress) for one in opened]
        pairs = find_pairs(surveys)
        shared = find_shared_slices(surveys)
        found = [
            [
                *find_all(survey),
                *find_other_scales(survey, surveys),
                *find_copies(survey, pairs),
                *find_slices(survey, shared),
                *find_large_groups(survey),
            ]
            for survey in surveys
        ]
        outdated = list(find_outdated(chain.from_iterable(found), accepted))
        return [
            _write(
                survey,
                config,
                [*accept_findings(own, accepted), *outdated],
                describe_comparisons(survey, surveys),
                album,
            )
            for survey, own in zip(surveys, found, strict=True)
        ]


def _may_have_both(opened: Sequence[Opened]) -> bool:
    """Return whether there may be still images and volumes. A manifest may list both."""
    readers = [one.reader for one in opened]
    volumes = any(reader.volume_rules or not reader.modality for reader in readers)
    return volumes and any(reader.is_still for reader in readers)


def _survey(
    opened: Opened, config: CheckConfig, hash_slices: bool, album: Album, progress: Progress
) -> Survey:
    options = read_options(config)
    reading = Reading(opened.reader, options, config.size, config.mask_resize)
    cache = open_cache(config, opened.name)
    inspected: list[Inspected] = []
    for one, pictures in inspect_sources(reading, opened.sources, hash_slices, cache, config.workers):
        inspected.append(one)
        making_room(config.workspace, partial(album.add, opened.name, one, pictures))
        progress(f"check {opened.name}", len(inspected), len(opened.sources))
    return Survey(
        opened.reader,
        opened.name,
        config.size,
        inspected,
        options=options,
        unused_columns=opened.unused_columns,
    )


def _write(
    survey: Survey, config: CheckConfig, found: Sequence[Finding], compared: Sequence[str], album: Album
) -> dict[str, Any]:
    findings = sorted(found, key=lambda finding: (finding.severity != "problem", not finding.is_accepted))
    report = {**_report(survey, config, findings), "compared": list(compared)}
    samples = pick_samples(survey, album)
    pictures = find_pictures(shown_cases(report, samples), survey, album)
    folder = config.workspace / "check"
    write_check_page(folder / report["page"], report, samples, pictures)
    shown: dict[str, Any] = _legible(finite(report))
    write_json(folder / f"{survey.name}.json", shown)
    return shown


def _report(survey: Survey, config: CheckConfig, findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        **stamp(CHECK),
        "flames": __version__,
        "dataset": survey.name,
        "reader": survey.reader.name,
        "source": survey.noun,
        "patient_unit": survey.reader.patient_unit,
        "licence": survey.reader.licence,
        **plugin_facts(survey.reader),
        "options": config.model_dump(mode="json", exclude=NOT_READING),
        "passed": all(finding.severity != "problem" for finding in findings),
        "accepted": count_accepted(findings),
        "counts": _count(survey),
        "findings": [finding.as_json() for finding in findings],
        "groups": tabulate(survey),
        "page": f"{survey.name}.html",
    }


def _count(survey: Survey) -> dict[str, int]:
    usable = survey.usable
    return {
        "sources": len(survey.inspected),
        "usable": len(usable),
        "left_out": sum(bool(one.skipped) for one in survey.inspected),
        "bad": sum(bool(one.bad) for one in survey.inspected),
        "patients": len({one.source.patient for one in usable}),
        "images": sum(len(one.cases) for one in usable),
    }


def _legible(value: Any) -> Any:
    """Return `value` with legible texts: file names may contain bytes that no JSON file or terminal should
    contain."""
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, dict):
        return {
            key if not isinstance(key, str) else legible(key): _legible(item) for key, item in value.items()
        }
    return [_legible(item) for item in value] if isinstance(value, list) else value
