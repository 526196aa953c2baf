"""Sources of a raw folder: decoded in parallel into a spool, with copies and split units found."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.intensity import MAX_8_BIT
from flames_cli.core.imaging.near_duplicates import cluster_by_marks
from flames_cli.errors import FlamesError
from flames_cli.readers.base import Reader, Source
from flames_cli.readers.duplicate_list import read_duplicate_list
from flames_cli.stages.acceptance import read_accepted
from flames_cli.stages.one_pass import Reading
from flames_cli.stages.preprocess.decoding import Decoded, EncodedCase, require_background
from flames_cli.stages.progress import Progress
from flames_cli.stages.raw import Kind, Opened, kind_of, open_cache, read_options
from flames_cli.stages.source_cache import decode_sources
from flames_cli.stages.split_units import Pictured, find_units
from flames_cli.store.cache import making_room
from flames_cli.store.cases import Spool
from flames_cli.store.h5 import SpooledCase


@dataclass(frozen=True, slots=True)
class Sound:
    """A valid source whose pixels are in the spool."""

    source: Source
    cases: list[SpooledCase]
    """Its cases. `case` is unique only within the patient: `2/z077`, or empty if there is one case."""
    copied: tuple[str, ...]
    """Marks that it shares with its copies: the hash of its content, and the groups of the user's list that
    name it."""
    pictures: tuple[str, ...]
    look: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A source, whether or not it is used."""

    source: Source
    number: str
    """Number among the patient's sources of one kind, from 1; empty if it is the only one."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A source or slice that the data set's rules leave out."""

    source: str
    """Name of the source."""
    place: str
    """The slice, such as `z077`; empty for the complete source."""
    reason: str


@dataclass(slots=True)
class Gathered:
    """All sources of one kind."""

    listed: dict[str, Listed] = field(default_factory=dict)
    """All sources, by name."""
    sound: dict[str, Sound] = field(default_factory=dict)
    """Valid sources, by name, with copies among them."""
    skipped: list[Skipped] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(source's name, what is wrong with it)"""
    copies: list[tuple[str, str]] = field(default_factory=list)
    """(left out, kept): exact copies, and copies that a duplicate list names."""
    max_value: int = MAX_8_BIT
    channels: int = 1
    labels: set[str] = field(default_factory=set)
    """The labels that the user chose and that exist in a mask."""
    only_labels: set[str] = field(default_factory=set)
    """The only labels of masks without a choice."""
    unchosen: list[str] = field(default_factory=list)
    """Faults of sources that are bad only because the user has not chosen the labels of tumour."""

    @property
    def used(self) -> list[Sound]:
        """The valid sources that are no copy of another, in order."""
        left_out = {copy for copy, _ in self.copies}
        return [sound for name, sound in self.sound.items() if name not in left_out]

    @property
    def cases(self) -> Iterator[SpooledCase]:
        """The cases of the sources that are kept, in order."""
        return (case for sound in self.used for case in sound.cases)


def gather(
    opened: Opened, config: PreprocessConfig, spool: Spool, progress: Progress
) -> dict[Kind, Gathered]:
    """Decode every source in parallel, or take it from the cache; keep the first of exact copies and of
    listed copies.

    Raises:
        FlamesError: one data set has images with different channels or depths, which one file cannot store;
            or the file of accepted findings is wrong.
    """
    reader, sources = opened.reader, opened.sources
    gathered = _list_by_kind(reader, sources)
    listed = _listed_groups(config, sources)
    accepted = read_accepted(config.accept)
    reading = Reading(reader, read_options(config), config.size, config.mask_resize)
    found = decode_sources(reading, sources, open_cache(config, opened.name), config.workers)
    for done, one in enumerate(found, start=1):
        decoded = require_background(one, accepted)
        progress(f"preprocess {reader.name}", done, len(sources))
        kind, name = kind_of(reader, decoded.source), decoded.source.name
        part = gathered[kind]
        (part.labels if decoded.source.labels or config.labels else part.only_labels).update(decoded.labels)
        part.unchosen += [decoded.bad] if decoded.needs_choice else []
        part.skipped.extend(Skipped(name, place, reason) for place, reason in decoded.skipped)
        if decoded.bad:
            part.bad.append((name, decoded.bad))
        elif decoded.cases:
            _require_alike(part, decoded)
            spooled = partial(_spool, decoded.cases, part.listed[name].number, spool)
            cases = making_room(config.workspace, spooled)
            copied = (decoded.content, *listed.get(name, ()))
            part.sound[name] = Sound(decoded.source, cases, copied, decoded.pictures, decoded.look)
    for part in gathered.values():
        _leave_out_copies(part)
    return gathered


def _list_by_kind(reader: Reader, sources: Sequence[Source]) -> dict[Kind, Gathered]:
    """Return the sources of every kind, numbered before any is read: a name does not change if a source is
    bad or skipped."""
    owners = [(kind_of(reader, source), source.patient) for source in sources]
    total, seen = Counter(owners), Counter[tuple[Kind, str]]()
    gathered: dict[Kind, Gathered] = {}
    for source, owner in zip(sources, owners, strict=True):
        seen[owner] += 1
        number = str(seen[owner]) if total[owner] > 1 else ""
        gathered.setdefault(owner[0], Gathered()).listed[source.name] = Listed(source, number)
    return gathered


def _require_alike(part: Gathered, decoded: Decoded) -> None:
    first = decoded.cases[0]
    if not part.sound:
        part.max_value, part.channels = first.max_value, first.channels
    if (part.max_value, part.channels) != (first.max_value, first.channels):
        raise FlamesError(
            f"{decoded.source.name} has {first.channels} channel(s) of 0..{first.max_value}, those before it "
            f"{part.channels} of 0..{part.max_value}: volumes, 16-bit and 8-bit images of one modality and "
            "organ cannot be one data set; list them in manifests of their own"
        )


def _spool(cases: Sequence[EncodedCase], number: str, spool: Spool) -> list[SpooledCase]:
    infos = [case.info for case in cases]
    if number:
        infos = [replace(info, case=join_name(number, info.case)) for info in infos]
    images = spool.add_all([case.image for case in cases])
    masks = spool.add_all([case.mask for case in cases])
    return [*map(SpooledCase, infos, images, masks)]


def join_name(*parts: str) -> str:
    """Return a name of all parts that are not empty: `2/z077`."""
    return "/".join(filter(None, parts))


def _leave_out_copies(part: Gathered) -> None:
    """Find the copies. This needs all sources: a later one may show that two earlier ones are copies of each
    other."""
    for name, first in cluster_by_marks({name: sound.copied for name, sound in part.sound.items()}).items():
        if first != name:
            part.copies.append((name, first))


def _listed_groups(config: PreprocessConfig, sources: Iterable[Source]) -> dict[str, list[str]]:
    """Return {source's name: marks of the groups of the user's list that name it}.

    Raises:
        FlamesError: the list cannot be read, or names no source.
    """
    marks: dict[str, list[str]] = {}
    groups = read_duplicate_list(config.duplicate_list) if config.duplicate_list else []
    for number, group in enumerate(groups):
        for name in group:
            marks.setdefault(name, []).append(f"list {number}")
    names = {source.name: re.sub(r"\.png$", "", source.name, flags=re.IGNORECASE) for source in sources}
    found = {name: marks[stem] for name, stem in names.items() if stem in marks}
    if groups and not found:
        raise FlamesError(
            f"{config.duplicate_list} names {groups[0][0]} and others, none of which is among the images "
            f"({next(iter(names))}, …); check --duplicate-list"
        )
    return found


def find_split_units(reader: Reader, parts: Iterable[Gathered]) -> dict[str, str]:
    """Return the split unit of every patient, named after the first of its patients.

    Copies count across modalities and organs: one image may be listed for each of two organs.
    """
    sounds = [sound for part in parts for sound in part.sound.values()]
    pictured = [Pictured(one.source, (*one.copied, *one.pictures), one.look) for one in sounds]
    return find_units(pictured, reader.knows_patients)


def join_alike_ids(unit_of: Mapping[str, str], alike: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the split unit of every patient, after patients whose ids are alike were put into one unit."""
    marks = {patient: [f"unit {unit}"] for patient, unit in sorted(unit_of.items())}
    for group in alike:
        for patient in (one for one in group if one in marks):
            marks[patient].append(f"spelt {group[0]}")
    return cluster_by_marks(marks)


def set_split_units(cases: Iterable[SpooledCase], unit_of: dict[str, str]) -> list[SpooledCase]:
    """Return `cases`, each with its split unit."""
    return [
        case
        if unit_of[case.info.patient] == case.info.split_unit
        else replace(case, info=replace(case.info, split_unit=unit_of[case.info.patient]))
        for case in cases
    ]
