"""Raw data of `check` and `preprocess`: its folder, its name, and the options with which it is read."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flames_cli.config import ReadConfig
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.patient_names import find_alike
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader, names_of
from flames_cli.readers.base import (
    Reader,
    ReadOptions,
    Source,
    VolumeRules,
    find_root,
    require_sources,
)
from flames_cli.readers.formats.ranges import is_ct, resolve_rule
from flames_cli.readers.manifest_table import MODALITIES
from flames_cli.store.cache import Cache, cache_root

Kind = tuple[str, str]
"""Modality and organ of a data set."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Raw data whose sources are listed and not yet read."""

    reader: Reader
    name: str
    """Name of the data set, or of a manifest's collection of data sets."""
    sources: list[Source]
    unused_columns: tuple[str, ...] = ()
    """Columns of a manifest that are not read."""


def open_raw(config: ReadConfig, dataset: str, keep: Sequence[str] = ()) -> Opened:
    """List the sources of the data set called `dataset`, with the columns `keep` of its manifest.

    Raises:
        FlamesError: an option does not apply to it, or its raw data is missing or not in the expected form.
    """
    reader = get_reader(dataset)
    check_options(reader, config)
    if keep and not reader.list_table:
        raise FlamesError(f"--keep-columns is for a manifest; {reader.name} has no table; leave it out")
    root = find_root(reader, raw_folder(config, reader))
    listing = require_sources(reader, root, config.root, keep)
    sources = listing.sources
    if reader.complete and config.empty == "skip":
        # They are no part of the count of a public data set; those of a manifest are reported as left out.
        sources = [source for source in sources if not source.is_healthy]
    name = config.name or own_name(reader, root)
    return Opened(reader, name, sources, listing.unused_columns)


def check_options(reader: Reader, config: ReadConfig) -> None:
    """Check that all options apply to the data set.

    Raises:
        FlamesError: an option does not; the message names it.
    """
    if config.channels == "rgb" and not reader.has_colour:
        raise FlamesError(f"{reader.name} has no colour images; leave out --channels rgb")
    if config.name and reader.modality:
        raise FlamesError(f"--name is for a manifest; {reader.name} has a name of its own")
    if config.labels and reader.modality:
        raise FlamesError(f"--labels is for a manifest; {reader.name} has labels of its own")
    if config.mask_threshold and not reader.is_still:
        raise FlamesError(f"--mask-threshold is for soft masks; {reader.name} has labels of its own")
    if config.labels and config.mask_threshold:
        raise FlamesError(
            "--labels and --mask-threshold exclude each other: a mask has labels or is soft; pass one of them"
        )
    if config.root and not reader.list_table:
        raise FlamesError(f"--root is for a manifest; the files of {reader.name} are in the folder of --raw")
    for name in config.raw:
        get_reader(name)


def check_windows(config: ReadConfig, modalities: Iterable[str]) -> None:
    """Check that every window is for a modality of the images; CT's may be for CT of any name.

    Raises:
        FlamesError: a window is for another modality; the message names it and the existing modalities.
    """
    known = sorted(set(modalities))
    accepted = {*known, *(["CT"] if any(map(is_ct, known)) else [])}
    if strange := [name for name in config.window if _spell(name) not in accepted]:
        raise FlamesError(
            f"--window names the modality {strange[0]}, expected {' or '.join(known)}; check its spelling"
        )


def _spell(modality: str) -> str:
    """Return `modality` in the spelling of readers, in which manifests are also read."""
    return MODALITIES.get(modality.lower(), modality)


def raw_folder(config: ReadConfig, reader: Reader) -> Path:
    """Return the user's folder for any of the data set's names; else the folder in the workspace."""
    named = {name.lower(): folder for name, folder in config.raw.items()}
    for name in names_of(reader):
        if name in named:
            return named[name]
    places = [config.workspace / "raw" / name for name in (*names_of(reader), reader.folder)]
    return next((place for place in places if place.is_dir()), places[0])


def own_name(reader: Reader, root: Path) -> str:
    """Return the reader's name, or the name of the folder for a manifest."""
    if reader.modality:
        return reader.name
    folder = root.parent.resolve() if root.is_file() else root.resolve()
    return slug(folder.name) or reader.name


def slug(text: str) -> str:
    """Return `text` as a part of a file name: lower case without accents, digits and -."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def kind_of(reader: Reader, source: Source) -> Kind:
    """Return the source's modality and organ: its own, else those of its reader."""
    return source.modality or reader.modality, source.organ or reader.organ


def name_datasets(opened: Opened) -> dict[Kind, str]:
    """Return the names of the data sets of all kinds: `sts` for one kind, else `sts-ct`, or `sts-ct-liver` if
    a modality has several organs.

    Raises:
        FlamesError: two kinds would have the same name.
    """
    collection = opened.name
    kinds = list(dict.fromkeys(kind_of(opened.reader, source) for source in opened.sources))
    if len(kinds) == 1:
        return {kinds[0]: collection}
    modalities = [modality for modality, _ in kinds]
    names = {
        (modality, organ): "-".join(
            [collection, slug(modality), *([slug(organ)] if modalities.count(modality) > 1 else [])]
        )
        for modality, organ in kinds
    }
    by_name: dict[str, Kind] = {}
    for kind, name in names.items():
        if (other := by_name.setdefault(name, kind)) != kind:
            raise FlamesError(
                f"{' of '.join(other)} and {' of '.join(kind)} would both be called {name}; use one spelling "
                "if they are the same, else spellings whose Latin letters and digits differ"
            )
    return names


def find_alike_ids(reader: Reader, sources: Iterable[Source]) -> list[list[str]]:
    """Return groups of patients whose ids are probably spellings of one id.

    Only data sets that name patients have them: the other ids are names of files.
    """
    if reader.patient_unit != "patient":
        return []
    return find_alike(source.patient for source in sources)


def read_options(config: ReadConfig) -> ReadOptions:
    """Return the user's options for reading."""
    return ReadOptions(
        slice_half_width=config.slice_half_width,
        slices=config.slices or "",
        plane=config.plane,
        windows={_spell(modality): window for modality, window in config.window.items()},
        percentile=config.percentile,
        percentile_of=config.percentile_of,
        colour=config.channels == "rgb",
        keep_empty=config.empty == "keep",
        labels=config.labels,
        mask_threshold=config.mask_threshold,
    )


def open_cache(config: ReadConfig, name: str) -> Cache | None:
    """Return the cache of the data set `name`; None if the user wants none."""
    return Cache(cache_root(config.workspace) / name) if config.cache else None


def rule_of(reader: Reader, modality: str, config: ReadConfig) -> IntensityRule:
    """Return the rule of the intensities of a data set's images of one modality."""
    return resolve_rule(reader.volume_rules or VolumeRules(modality), read_options(config))
