"""Where raw data lies, what it is called, and how it is to be read: what `check` and `preprocess` share."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flames_cli.config import ReadConfig
from flames_cli.errors import FlamesError
from flames_cli.readers import get_reader, names_of
from flames_cli.readers.base import BadCase, Reader, ReadOptions, Source, find_root, require_sources
from flames_cli.readers.manifest_table import MODALITIES

Kind = tuple[str, str]
"""Modality, organ: a data set has one of each."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Raw data whose sources are listed and not yet read."""

    reader: Reader
    name: str
    """Of the data set, or of a manifest's collection of them."""
    sources: list[Source]


def open_raw(config: ReadConfig, dataset: str) -> Opened:
    """List the sources of the data set called `dataset`.

    Raises:
        FlamesError: an option that it has no use for, or its raw data is not there or not as expected.
    """
    reader = get_reader(dataset)
    check_options(reader, config)
    root = find_root(reader, raw_folder(config, reader))
    return Opened(reader, config.name or own_name(reader, root), require_sources(reader, root))


def check_options(reader: Reader, config: ReadConfig) -> None:
    """Refuse options that the data set has no use for.

    Raises:
        FlamesError: naming the option.
    """
    if config.channels == "rgb" and not reader.has_colour:
        raise FlamesError(f"{reader.name} has no colour images; leave out --channels rgb")
    if config.name and reader.modality:
        raise FlamesError(f"--name is for a manifest; {reader.name} has a name of its own")
    for name in config.raw:
        get_reader(name)


def check_windows(config: ReadConfig, modalities: Iterable[str]) -> None:
    """Refuse a window that no image would be read with.

    Raises:
        FlamesError: naming its modality, and those that there are.
    """
    known = sorted(set(modalities))
    if strange := [name for name in config.window if _spell(name) not in known]:
        raise FlamesError(
            f"--window names the modality {strange[0]}, expected {' or '.join(known)}; check its spelling"
        )


def _spell(modality: str) -> str:
    """As readers spell it, and manifests are read."""
    return MODALITIES.get(modality.lower(), modality)


def raw_folder(config: ReadConfig, reader: Reader) -> Path:
    """The user's folder, under any of the data set's names; else the workspace's place."""
    named = {name.lower(): folder for name, folder in config.raw.items()}
    for name in names_of(reader):
        if name in named:
            return named[name]
    places = [config.workspace / "raw" / name for name in (*names_of(reader), reader.folder)]
    return next((place for place in places if place.is_dir()), places[0])


def own_name(reader: Reader, root: Path) -> str:
    """The reader's, or for a manifest that of its folder."""
    if reader.modality:
        return reader.name
    folder = root.parent.resolve() if root.is_file() else root.resolve()
    return slug(folder.name) or reader.name


def slug(text: str) -> str:
    """`text` as part of a file's name: lower case without accents, digits and -."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def kind_of(reader: Reader, source: Source) -> Kind:
    """The source's modality and organ: its own, else its reader's."""
    return source.modality or reader.modality, source.organ or reader.organ


def read_options(config: ReadConfig) -> ReadOptions:
    """What the user chose about reading."""
    return ReadOptions(
        slice_half_width=config.slice_half_width,
        slices=config.slices or "",
        plane=config.plane,
        windows={_spell(modality): window for modality, window in config.window.items()},
        percentile=config.percentile,
        colour=config.channels == "rgb",
    )


def say_bad(source: Source, error: BadCase) -> str:
    """What is wrong, with the source's whole name: in a hospital's folders many files are called alike."""
    name, told = str(BadCase(source.name)), str(error)
    if name in told or ("/" not in name and name.split(".")[0] in told):
        return told
    return f"{name}: {told.removeprefix(f'{PurePosixPath(name).name}: ')}"
