"""Raw folder → `preprocessed/<dataset>.h5` and the JSON beside it: one pass, bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli import __version__
from flames_cli.arrays import Mask, Pixels
from flames_cli.config import PreprocessConfig
from flames_cli.core.geometry import to_square
from flames_cli.core.groups import PHASH_MAX_DISTANCE, first_alike, group_duplicates
from flames_cli.core.intensity import MAX_8_BIT, quantise, scale
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader
from flames_cli.readers.base import (
    BadCase,
    RawCase,
    Reader,
    ReadOptions,
    SkippedCase,
    Source,
    find_root,
    require_sources,
)
from flames_cli.readers.duplicate_list import read_duplicate_list
from flames_cli.readers.fingerprints import content_hash, perceptual_hash
from flames_cli.stages.parallel import ordered_map
from flames_cli.stages.progress import Progress, silent
from flames_cli.stages.splitting import split_cases
from flames_cli.store.atomic import write_json
from flames_cli.store.cases import CaseInfo, SetInfo, Spool, encode_chunk
from flames_cli.store.h5 import SpooledCase, hash_file, write_preprocessed
from flames_cli.store.schema import PREPROCESSED_REPORT, stamp

LISTED_BAD = 5
"""Bad cases that an error message names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class EncodedCase:
    """A case ready for HDF5."""

    info: CaseInfo
    image: bytes
    mask: bytes
    max_value: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one source: cases, or why there are none."""

    source: Source
    cases: tuple[EncodedCase, ...] = ()
    content: str = ""
    """Hash of the source's images: equal for exact copies."""
    look: NDArray[np.bool_] | None = None
    """Perceptual hash of a still image before it is resized, so that groups do not depend on the size."""
    skipped: tuple[tuple[str, str], ...] = ()
    """(name, reason) of what the data set's rules leave out."""
    bad: str = ""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A sound source whose pixels lie in the spool."""

    patient: str
    cases: list[SpooledCase]
    look: NDArray[np.bool_] | None


@dataclass(slots=True)
class Gathered:
    """All sources of a data set, their pixels in a spool."""

    cases: list[SpooledCase]
    skipped: list[tuple[str, str]]
    bad: list[str]
    copies: list[tuple[str, str]]
    """(left out, kept): exact copies and those that a duplicate list names."""
    looks: dict[str, NDArray[np.bool_]]
    """By patient."""
    max_value: int = MAX_8_BIT


def preprocess(config: PreprocessConfig, dataset: str, progress: Progress = silent) -> dict[str, Any]:
    """Preprocess one data set; returns the report that is also written as JSON.

    Raises:
        FlamesError: no raw data, bad cases without `skip_bad`, too few patients, or output that exists
            without `overwrite`. Nothing is written then.
    """
    reader = get_reader(dataset)
    target = config.workspace / "preprocessed" / f"{reader.NAME}.h5"
    if target.exists() and not config.overwrite:
        raise FlamesError(f"{target} is there already; pass --overwrite to make it anew")
    root = find_root(reader, _raw_folder(config, reader))
    sources = require_sources(reader, root)
    # On the disk that the result will lie on; its folder is made only once all went well.
    beside = next(folder for folder in target.parents if folder.is_dir())
    with Spool(beside) as spool:
        gathered = _gather(reader, sources, config, spool, progress)
        _refuse_bad(reader, gathered.bad, config.skip_bad)
        cases, near = _group_near_copies(gathered)
        sets = split_cases(reader, cases, config)
        info = SetInfo(reader.NAME, reader.MODALITY, reader.ORGAN, config.size, gathered.max_value)
        write_preprocessed(target, info, sets, spool)
    report = _report(reader, config, len(sources), sets, gathered, near, target)
    write_json(target.with_suffix(".json"), report)
    return report


def _raw_folder(config: PreprocessConfig, reader: Reader) -> Path:
    """The user's folder, under any of the data set's names; else the workspace's place."""
    named = {name.lower(): folder for name, folder in config.raw.items()}
    for name in (reader.NAME, *reader.ALIASES):
        if name in named:
            return named[name]
    places = [config.workspace / "raw" / name for name in (reader.NAME, *reader.ALIASES, reader.FOLDER)]
    return next((place for place in places if place.is_dir()), places[0])


def _gather(
    reader: Reader, sources: list[Source], config: PreprocessConfig, spool: Spool, progress: Progress
) -> Gathered:
    """Decode every source in parallel; keep the first of exact and of listed copies."""
    listed = _listed_groups(config)
    gathered = Gathered([], [], [], [], {})
    sound: dict[str, Spooled] = {}
    marks: dict[str, list[str]] = {}
    options = ReadOptions(slice_half_width=config.slice_half_width)
    decode = partial(_decode, reader, options, config.size)
    for done, decoded in enumerate(ordered_map(decode, sources, config.workers), start=1):
        progress(f"preprocess {reader.NAME}", done, len(sources))
        gathered.skipped.extend(decoded.skipped)
        if decoded.bad:
            gathered.bad.append(decoded.bad)
        elif decoded.cases:
            name = decoded.source.name
            marks[name] = [decoded.content, *listed.get(name, ())]
            sound[name] = _spool(decoded, spool)
            gathered.max_value = decoded.cases[0].max_value
    # Only now: a later source may show that two earlier ones are copies of one another.
    for name, first in first_alike(marks).items():
        if first == name:
            _keep(gathered, sound[name])
        else:
            gathered.copies.append((name, first))
    return gathered


def _spool(decoded: Decoded, spool: Spool) -> Spooled:
    cases = [SpooledCase(case.info, spool.add(case.image), spool.add(case.mask)) for case in decoded.cases]
    return Spooled(decoded.source.patient, cases, decoded.look)


def _keep(gathered: Gathered, source: Spooled) -> None:
    gathered.cases.extend(source.cases)
    if source.look is not None:
        gathered.looks[source.patient] = source.look


def _listed_groups(config: PreprocessConfig) -> dict[str, list[str]]:
    """{name: marks of the groups of the user's list that it is in}."""
    marks: dict[str, list[str]] = {}
    groups = read_duplicate_list(config.duplicate_list) if config.duplicate_list else []
    for number, group in enumerate(groups):
        for name in group:
            marks.setdefault(name, []).append(f"list {number}")
    return marks


def _decode(reader: Reader, options: ReadOptions, size: int, source: Source) -> Decoded:
    try:
        raw = reader.read_source(source, options)
    except BadCase as error:
        return Decoded(source, bad=str(error))
    except SkippedCase as error:
        return Decoded(source, skipped=((source.name, str(error)),))
    encoded: list[EncodedCase] = []
    skipped: list[tuple[str, str]] = []
    look = None
    for case in raw:
        image, mask = _square(case, size)
        if not mask.any():
            skipped.append((case.case, f"the lesion vanishes at {size}×{size}"))
            continue
        look = perceptual_hash(case.image) if reader.STILL else None
        encoded.append(_encode(case, source.stratum, image, mask))
    content = content_hash(np.stack([case.image for case in raw]))
    return Decoded(source, tuple(encoded), content, look, tuple(skipped))


def _square(case: RawCase, size: int) -> tuple[Pixels, Mask]:
    """The case in its final geometry and stored precision; 8-bit images never leave 8 bits."""
    if case.max_value == MAX_8_BIT and (case.low, case.high) == (0.0, float(MAX_8_BIT)):
        return to_square(case.image, case.mask, size)
    image, mask = to_square(scale(case.image, case.low, case.high), case.mask, size)
    return quantise(image, case.max_value), mask


def _encode(case: RawCase, stratum: str, image: Pixels, mask: Mask) -> EncodedCase:
    info = CaseInfo(
        case=case.case,
        patient=case.patient,
        group=case.patient,
        stratum=stratum,
        slice_index=case.slice_index,
        spacing_mm=case.spacing_mm,
        lesion_px=int(mask.sum()),
    )
    return EncodedCase(info, encode_chunk(image), encode_chunk(mask), case.max_value)


def _refuse_bad(reader: Reader, bad: Sequence[str], skip_bad: bool) -> None:
    if not bad or skip_bad:
        return
    named = "; ".join(bad[:LISTED_BAD]) + (
        f"; and {len(bad) - LISTED_BAD} more" if len(bad) > LISTED_BAD else ""
    )
    raise FlamesError(
        f"{reader.NAME} has {len(bad)} bad {'case' if len(bad) == 1 else 'cases'}: {named}. "
        "Mend them, or leave them out with --skip-bad"
    )


def _group_near_copies(gathered: Gathered) -> tuple[list[SpooledCase], list[list[str]]]:
    """Near copies among still images share a group, so that no split divides them; and those groups."""
    patients = sorted(gathered.looks)
    if len(patients) < 2:
        return gathered.cases, []
    first = group_duplicates(np.stack([gathered.looks[name] for name in patients]), PHASH_MAX_DISTANCE)
    group_of = {patient: patients[index] for patient, index in zip(patients, first, strict=True)}
    cases = [
        replace(case, info=replace(case.info, group=group_of[case.info.patient])) for case in gathered.cases
    ]
    members: dict[str, list[str]] = {}
    for patient in patients:
        members.setdefault(group_of[patient], []).append(patient)
    return cases, [group for group in members.values() if len(group) > 1]


def _report(
    reader: Reader,
    config: PreprocessConfig,
    n_sources: int,
    sets: dict[str, list[SpooledCase]],
    gathered: Gathered,
    near: list[list[str]],
    target: Path,
) -> dict[str, Any]:
    options = config.model_dump(
        mode="json", include={"size", "server_test", "test_fraction", "slice_half_width", "skip_bad", "seed"}
    )
    options["duplicate_list"] = config.duplicate_list.name if config.duplicate_list else None
    return {
        **stamp(PREPROCESSED_REPORT),
        "flames": __version__,
        "dataset": reader.NAME,
        "modality": reader.MODALITY,
        "organ": reader.ORGAN,
        "licence": reader.LICENCE,
        "options": options,
        "sources": n_sources,
        "sets": {
            name: {"images": len(cases), "patients": len({case.info.patient for case in cases})}
            for name, cases in sets.items()
        },
        "skipped": [{"name": name, "reason": reason} for name, reason in gathered.skipped],
        "bad": gathered.bad,
        "copies_left_out": [{"name": name, "same_as": kept} for name, kept in gathered.copies],
        "near_copies_kept_together": near,
        "file": target.name,
        "sha256": hash_file(target),
    }
