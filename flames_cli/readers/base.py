"""What every reader shares: sources, cases, and the two ways in which a source gives none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flames_cli.arrays import Mask, Pixels
from flames_cli.errors import FlamesError


class BadCase(FlamesError):
    """A source that cannot be trusted: corrupt, without a mask, mis-sized, of unknown labels."""


class SkippedCase(Exception):
    """A sound source that the data set's rules leave out, such as one whose mask is empty."""


@dataclass(frozen=True, slots=True)
class Source:
    """One raw image or volume with its masks, not yet read; `patient` is unique within the data set."""

    name: str
    """As a user finds it in the raw folder: the file's name."""
    patient: str
    image: Path
    masks: tuple[Path, ...]
    stratum: str = ""
    """A class to keep in proportion between sets, such as benign and malignant."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user may choose about reading; still images need none of it."""

    slice_half_width: int = 20
    """Slices kept on either side of the mean index of those that hold tumour."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One 2D image with its mask, in its source's precision, before geometry and intensity."""

    case: str
    patient: str
    image: Pixels
    """H×W."""
    mask: Mask
    """H×W, 0 and 1."""
    low: float = 0.0
    high: float = 255.0
    """Intensities low..high become 0..1."""
    max_value: int = 255
    """Full scale that the case is kept in (see `core.intensity`)."""
    slice_index: int = -1
    """Axial index after reorientation; -1 for still images."""
    spacing_mm: tuple[float, float] = field(default=(float("nan"), float("nan")))
    """Rows, columns; NaN where the source does not tell."""


class Reader(Protocol):
    """What each reader module provides (a module is one raw layout)."""

    NAME: str
    ALIASES: tuple[str, ...]
    MODALITY: str
    ORGAN: str
    LICENCE: str
    FOLDER: str
    """The folder that the original download unpacks to."""
    LAYOUT: str
    """What the reader expects to find, for error messages."""
    SERVER_TEST: int
    """Images in the server's test set in the paper."""
    STILL: bool
    """Single images (which may be copies of each other) rather than volumes."""

    def list_sources(self, root: Path) -> list[Source]:
        """The sources under `root`, in natural order; nothing is decoded."""
        ...

    def read_source(self, source: Source, options: ReadOptions) -> list[RawCase]:
        """The cases of one source. Raises BadCase or SkippedCase."""
        ...

    def iter_raw_cases(self, root: Path) -> Iterator[RawCase]:
        """Every sound case under `root`, one source in memory at a time."""
        ...


def read_all(
    sources: list[Source], read_source: Callable[[Source, ReadOptions], list[RawCase]]
) -> Iterator[RawCase]:
    """The cases of all sources, those that rules leave out passed over. Raises BadCase."""
    for source in sources:
        try:
            yield from read_source(source, ReadOptions())
        except SkippedCase:
            continue


def find_root(reader: Reader, raw: Path) -> Path:
    """`raw` itself, or the folder of the original download inside it.

    Raises:
        FlamesError: `raw` is not a folder.
    """
    if not raw.is_dir():
        raise FlamesError(
            f"no folder {raw}: expected the raw {reader.NAME} data ({reader.LAYOUT}); "
            "put it there or pass --raw DIR"
        )
    inside = raw / reader.FOLDER
    return inside if inside.is_dir() else raw


def require_sources(reader: Reader, root: Path) -> list[Source]:
    """The reader's sources, at least one.

    Raises:
        FlamesError: the folder holds none.
    """
    sources = reader.list_sources(root)
    if not sources:
        raise FlamesError(f"no {reader.NAME} images in {root}: expected {reader.LAYOUT}; check --raw")
    return sources
