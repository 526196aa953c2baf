"""Report of preprocessing: counts of every set and site, and all sources that were left out, under
pseudonyms."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from flames_cli import __version__
from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.small_lesion_rule import Lesion
from flames_cli.readers.base import Reader
from flames_cli.stages.preprocess.pseudonymise import call_source
from flames_cli.stages.preprocess.sources import Gathered
from flames_cli.store.cases import SetInfo
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import SpooledCase
from flames_cli.store.schema import PREPROCESSED_REPORT, stamp

Sets = dict[str, list[SpooledCase]]
"""Cases by set."""

UNTOLD = {"workspace", "raw", "datasets", "duplicate_list", "salt_file", "workers", "overwrite"}
"""Options that are not in the report: they change nothing in the files, or are paths at the site."""


def make_report(
    reader: Reader,
    config: PreprocessConfig,
    info: SetInfo,
    part: Gathered,
    sets: Sets,
    near: list[list[str]],
    pseudonym_of: Mapping[str, str],
    target: Path,
) -> dict[str, Any]:
    """Return the report of one data set.

    Args:
        reader: reader of the data set.
        config: options as run.
        info: properties that the cases share.
        part: sources that were kept, and those that were not.
        sets: cases of every set.
        near: patients kept together because their images are near copies.
        pseudonym_of: pseudonym of every patient.
        target: the HDF5 file, which is written already.
    """
    options = config.model_dump(mode="json", exclude=UNTOLD)
    shown = {own: cases for own, cases in sets.items() if cases or own != "client_val"}
    options["duplicate_list"] = config.duplicate_list is not None

    def call(name: str, place: str = "") -> str:
        return call_source(part, name, pseudonym_of, place)

    return {
        **stamp(PREPROCESSED_REPORT),
        "flames": __version__,
        "dataset": info.dataset,
        "reader": reader.name,
        "modality": info.modality,
        "organ": info.organ,
        "licence": reader.licence,
        "options": options,
        "sources": len(part.listed),
        "sets": {own: _count(cases) for own, cases in shown.items()},
        "small_lesions": _count_lesions(info, shown),
        "sites": _count_sites(sets),
        "skipped": [{"name": call(one.source, one.place), "reason": one.reason} for one in part.skipped],
        "bad": [call(name) for name, _ in part.bad],
        "copies_left_out": [{"name": call(copy), "same_as": call(kept)} for copy, kept in part.copies],
        "near_copies_kept_together": [[pseudonym_of[patient] for patient in group] for group in near],
        "file": target.name,
        "sha256": hash_file(target),
    }


def _count(cases: Sequence[SpooledCase]) -> dict[str, int]:
    return {"images": len(cases), "patients": len({case.info.patient for case in cases})}


def _count_sites(sets: Sets) -> dict[str, dict[str, int]]:
    """Return the images and patients of each site, over all sets; empty if the data set names no site."""
    sites: dict[str, list[SpooledCase]] = {}
    for case in (case for cases in sets.values() for case in cases):
        if case.info.site:
            sites.setdefault(case.info.site, []).append(case)
    return {site: _count(cases) for site, cases in sorted(sites.items())}


def _count_lesions(info: SetInfo, sets: Sets) -> dict[str, Any]:
    """Return the rule, and how many images of each set have small lesions, large ones, or none."""
    counts = {own: Counter(info.judge(case.info) for case in cases) for own, cases in sets.items()}
    return {
        "rule": str(info.small),
        "sets": {own: {kind: found[kind] for kind in get_args(Lesion)} for own, found in counts.items()},
    }
