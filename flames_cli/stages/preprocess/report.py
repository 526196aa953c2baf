"""Report of preprocessing: counts of every set and site, and all sources that were left out, under
pseudonyms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from flames_cli import __version__
from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.small_lesion_rule import Lesion
from flames_cli.readers import plugin_facts
from flames_cli.stages.preprocess.pseudonymise import new_source_name
from flames_cli.stages.preprocess.sources import Gathered
from flames_cli.stages.raw import Opened
from flames_cli.stages.split_units import find_large_units
from flames_cli.store.cases import SetInfo
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import SpooledCase
from flames_cli.store.schema import PREPROCESSED_REPORT, stamp

Sets = dict[str, list[SpooledCase]]
"""Cases by set."""

NOT_REPORTED = {
    "workspace",
    "plugins",
    "raw",
    "root",
    "datasets",
    "duplicate_list",
    "salt_file",
    "accept",
    "workers",
    "cache",
    "overwrite",
}
"""Options that are not in the report: they change nothing in the files, or are paths at the site."""


@dataclass(frozen=True, slots=True)
class PreparedDataSet:
    """One modality and organ of a reader, ready to be written."""

    info: SetInfo
    sets: Sets
    part: Gathered
    """Sources that were kept, and those that were not."""
    near: list[list[str]]
    """Patients kept together because their images are near copies."""
    alike: list[list[str]]
    """Patients kept together because their ids may be spellings of one id."""
    target: Path
    """The HDF5 file."""


def make_report(
    opened: Opened, config: PreprocessConfig, prepared: PreparedDataSet, pseudonym_of: Mapping[str, str]
) -> dict[str, Any]:
    """Return the report of one data set, whose HDF5 file is written already."""
    info, part, sets = prepared.info, prepared.part, prepared.sets
    options = config.model_dump(mode="json", exclude=NOT_REPORTED)
    shown = {own: cases for own, cases in sets.items() if cases or own != "client_val"}
    options["duplicate_list"] = config.duplicate_list is not None

    def call(name: str, place: str = "") -> str:
        return new_source_name(part, name, pseudonym_of, place)

    return {
        **stamp(PREPROCESSED_REPORT),
        "flames": __version__,
        "dataset": info.dataset,
        "reader": opened.reader.name,
        "modality": info.modality,
        "organ": info.organ,
        "licence": opened.reader.licence,
        **plugin_facts(opened.reader),
        "options": options,
        "patient_unit": info.patient_unit,
        "sources": len(part.listed),
        "sets": {own: _count(cases) for own, cases in shown.items()},
        "small_lesions": _count_lesions(info, shown),
        "sites": _count_sites(sets),
        "sites_left_out": _count_lost_sites(part, sets),
        "unused_columns": list(opened.unused_columns),
        "kept_columns": _count_values(sets),
        "skipped": [{"name": call(one.source, one.place), "reason": one.reason} for one in part.skipped],
        "bad": [call(name) for name, _ in part.bad],
        "copies_left_out": [{"name": call(copy), "same_as": call(kept)} for copy, kept in part.copies],
        "near_copies_kept_together": [
            [pseudonym_of[patient] for patient in group] for group in prepared.near
        ],
        "large_groups": _large_groups(prepared),
        "ids_alike_kept_together": [[pseudonym_of[patient] for patient in group] for group in prepared.alike],
        "file": prepared.target.name,
        "sha256": hash_file(prepared.target),
    }


def _count(cases: Sequence[SpooledCase]) -> dict[str, int]:
    """Return the images, patients, and if there are volumes their number and that of all their slices.

    Images are the cases that are selected: stills, and the slices that models train on and are tested on.
    """
    infos = [case.info for case in cases]
    counts = {
        "images": sum(info.selected for info in infos),
        "patients": len({info.patient for info in infos}),
    }
    slices = [info.volume for info in infos if info.place]
    return {**counts, "volumes": len(set(slices)), "slices": len(slices)} if slices else counts


def _large_groups(prepared: PreparedDataSet) -> list[dict[str, Any]]:
    """Return the groups of near copies above a tenth of the images: their patients, images and set."""
    cases = [
        (own, case.info) for own, listed in prepared.sets.items() for case in listed if case.info.selected
    ]
    images = Counter(case.patient for _, case in cases)
    set_of = {case.split_unit: own for own, case in cases}
    units = find_large_units({case.patient: case.split_unit for _, case in cases}, images)
    return [
        {
            "patients": len(patients),
            "images": sum(images[patient] for patient in patients),
            "set": set_of[unit],
        }
        for unit, patients in units.items()
    ]


def _count_sites(sets: Sets) -> dict[str, dict[str, int]]:
    """Return the images and patients of each site, over all sets; empty if the data set names no site."""
    sites: dict[str, list[SpooledCase]] = {}
    for case in (case for cases in sets.values() for case in cases):
        if case.info.site:
            sites.setdefault(case.info.site, []).append(case)
    return {site: _count(cases) for site, cases in sorted(sites.items())}


def _count_lost_sites(part: Gathered, sets: Sets) -> dict[str, int]:
    """Return the number of sources of each site that has no case in any set."""
    kept = {case.info.site for cases in sets.values() for case in cases}
    sites = (one.source.site for one in part.listed.values())
    return dict(sorted(Counter(site for site in sites if site and site not in kept).items()))


def _count_values(sets: Sets) -> dict[str, dict[str, int]]:
    """Return for every kept column the number of different values, and of those that only one patient has."""
    patients: dict[str, dict[str, set[str]]] = {}
    for case in (case.info for cases in sets.values() for case in cases):
        for column, value in case.extra.items():
            owners = patients.setdefault(column, {})
            if value:
                owners.setdefault(value, set()).add(case.patient)
    return {
        column: {"values": len(owners), "of_one_patient": sum(len(own) == 1 for own in owners.values())}
        for column, owners in patients.items()
    }


def _count_lesions(info: SetInfo, sets: Sets) -> dict[str, Any]:
    """Return the rule, and how many images of each set have small lesions, large ones, or none."""
    counts = {
        own: Counter(info.judge(case.info) for case in cases if case.info.selected)
        for own, cases in sets.items()
    }
    return {
        "rule": str(info.small),
        "sets": {own: {kind: found[kind] for kind in get_args(Lesion)} for own, found in counts.items()},
    }
