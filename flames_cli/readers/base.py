"""What every reader shares: sources, cases, and the two ways in which a source gives none."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.imaging.volumes import Placement
from flames_cli.errors import FlamesError


class BadCase(FlamesError):
    """A source that cannot be trusted: corrupt, without a mask, mis-sized, of unknown labels."""

    def __init__(self, message: str) -> None:
        # Files' names and headers are quoted, and may hold anything; a message is one line.
        super().__init__("".join(char if char.isprintable() else "?" for char in message))


class SkippedCase(Exception):
    """A sound source that the data set's rules leave out, such as one whose mask is empty.

    Its words enter the report of preprocessing: they name no file and no patient.
    """


@dataclass(frozen=True, slots=True)
class Source:
    """One raw image or volume with its masks, not yet read; `patient` is unique within the data set."""

    name: str
    """As a user finds it in the raw folder: the file's name."""
    patient: str
    image: Path
    masks: tuple[Path, ...]
    case: str = ""
    """Name of a still image's case, where it is not the patient's."""
    stratum: str = ""
    """A class to keep in proportion between sets, such as benign and malignant."""
    site: str = ""
    """The centre that it comes from, where the data set tells."""
    modality: str = ""
    """Where it is not its reader's."""
    organ: str = ""
    """Where it is not its reader's."""
    fixed_set: str = ""
    """The one of core.splits.SETS that the data set itself puts it in; empty: a split decides."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a user may choose about reading."""

    slice_half_width: int = 20
    """For slices `near`: kept on either side of the mean index of those that hold tumour."""
    slices: str = ""
    """Of a volume: `near`, `lesion` (all with tumour) or `all`; empty: as the data set's paper does."""
    plane: str = "axial"
    """One of core.volumes.PLANES."""
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Intensities low..high that become 0..1, by modality, in place of the data set's own."""
    percentile: float = 95.0
    """Of the whole volume, that becomes 1 where no window applies."""
    colour: bool = False
    """Keep red, green and blue where the data set has them."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One 2D image with its mask, in its source's precision, before geometry and intensity."""

    case: str
    patient: str
    image: Pixels
    """H×W, or H×W×3 in colour."""
    mask: Mask
    """H×W, 0 and 1."""
    low: float = 0.0
    high: float = 255.0
    """Intensities low..high become 0..1."""
    max_value: int = 255
    """Full scale that the case is kept in (see `core.intensity`)."""
    slice_index: int = -1
    """Along the plane's axis in RAS, or in the data set's own count; -1 for still images."""
    spacing_mm: tuple[float, float] = field(default=(float("nan"), float("nan")))
    """Rows, columns; NaN where the source does not tell."""
    place: Placement | None = None
    """Where a slice lies in its volume."""


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
    COMPLETE: int
    """Sources with a mask in the complete download; 0 where it is the user's own."""
    SERVER_TEST: int
    """Images in the server's test set in the paper; 0 where no paper says: a tenth of the patients."""
    STILL: bool
    """Single images (which may be copies of each other) rather than volumes."""
    KNOWS_PATIENTS: bool
    """Whether patients are named; where they are not, every image counts as one."""
    COLOUR: bool
    """Whether its images can be read in colour."""
    SMALL: SmallLesionRule
    """Which of its images hold small lesions, where the user does not say."""

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
    """`raw` itself, or the folder (or the manifest) of the original download inside it.

    Raises:
        FlamesError: `raw` is not a folder, nor a manifest where one is read.
    """
    is_manifest = Path(reader.FOLDER).suffix == ".csv" and raw.suffix.lower() == ".csv" and raw.is_file()
    if not (raw.is_dir() or is_manifest):
        raise FlamesError(
            f"no folder {raw}: expected the raw {reader.NAME} data ({reader.LAYOUT}); "
            "put it there or pass --raw DIR"
        )
    inside = raw / reader.FOLDER
    return inside if inside.exists() else raw


def require_sources(reader: Reader, root: Path) -> list[Source]:
    """The reader's sources, at least one.

    Raises:
        FlamesError: the folder holds none, or one whose name no file of ours could hold.
    """
    sources = reader.list_sources(root)
    if not sources:
        raise FlamesError(f"no {reader.NAME} images in {root}: expected {reader.LAYOUT}; check --raw")
    for source in sources:
        try:
            f"{source.name}{source.patient}".encode()
        except UnicodeEncodeError as error:
            raise FlamesError(f"{root} holds {source.name!a}, a name that is not UTF-8; rename it") from error
    return sources
