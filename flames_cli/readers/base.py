"""Types that every reader uses: the description of a data set, its sources, its cases, and its errors."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flames_cli.arrays import Mask, Pixels
from flames_cli.core.imaging.intensity import PercentileOf
from flames_cli.core.imaging.intensity_rule import IntensityRule
from flames_cli.core.imaging.labels import Threshold
from flames_cli.core.imaging.small_lesion_rule import DEFAULT_RULE, SmallLesionRule
from flames_cli.core.imaging.volumes import Placement
from flames_cli.core.patient_units import PatientUnit
from flames_cli.errors import FlamesError


class BadCase(FlamesError):
    """A source that cannot be trusted: a corrupt file, a missing mask, a wrong size, or unknown labels."""

    def __init__(self, message: str) -> None:
        # The message quotes file names and headers, which may contain any character; it must stay one line.
        super().__init__("".join(char if char.isprintable() else "?" for char in message))


class UnchosenLabels(BadCase):
    """A sound source whose mask has several labels, of which the user has not chosen those of tumour.

    It is not left out with other bad cases: the patients without tumour would remain.
    """


class SkippedCase(Exception):
    """A sound source that the rules of its data set leave out, such as one whose mask is empty.

    The message is written to the report of preprocessing, so it names no file and no patient.
    """


EMPTY_MASK = "the mask is empty"
"""Reason for which a source without a lesion is left out."""
NONE_CHOSEN = "the mask contains none of the chosen labels, so that nothing of it is tumour"
"""Remark on such a mask, and reason for which a source with only such masks is left out."""
NO_LESION = "the manifest states that there is no lesion"
"""Reason for which a row of a manifest without a mask is left out."""


@dataclass(frozen=True, slots=True)
class Source:
    """One raw image or volume with its masks, not yet read."""

    name: str
    """Name of the file or folder, as the user finds it in the raw folder."""
    patient: str
    """Identifier of the patient, unique within the data set."""
    image: Path
    masks: tuple[Path, ...]
    case: str = ""
    """Name of the case of a still image; empty: the patient's identifier."""
    stratum: str = ""
    """Class whose proportion every split preserves, such as benign or malignant."""
    site: str = ""
    """Hospital or centre that the image comes from; empty where the data set does not state it."""
    modality: str = ""
    """Modality of the image; empty: the modality of its data set."""
    organ: str = ""
    """Organ in the image; empty: the organ of its data set."""
    fixed_set: str = ""
    """The one of core.splits.SETS to which the data set itself assigns the source; empty: a split decides."""
    labels: tuple[str, ...] = ()
    """Labels of the masks that are tumour; they replace those of ReadOptions."""
    frame: int = 0
    """Number of the frame of a DICOM clip, or of the page of a TIFF, from 1; 0: the file has one image."""
    files: tuple[Path, ...] = ()
    """Files of a DICOM series that shares its folder with other files; `image` is the first of them. Empty:
    `image` is all of it."""
    is_healthy: bool = False
    """True if the data set itself states that the image has no lesion; read only with `keep_empty`."""
    place_in_series: tuple[str, int] | None = None
    """Series and number of an image, where neighbouring numbers may show one patient; else None."""
    extra: tuple[tuple[str, str], ...] = ()
    """Names and values of the columns of a manifest that the user keeps."""


def describe_bad(source: Source, error: BadCase) -> str:
    """Return the error with the source's complete name: in a hospital's folders many files have the same
    name."""
    name, message = str(BadCase(source.name)), str(error)
    if name in message or ("/" not in name and name.split(".")[0] in message):
        return message
    return f"{name}: {message.removeprefix(f'{PurePosixPath(name).name}: ')}"


@dataclass(frozen=True, slots=True)
class Listing:
    """Sources of a data set, not yet read."""

    sources: list[Source]
    """Sources in natural order."""
    unused_columns: tuple[str, ...] = ()
    """Columns of a table that are not read."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The user's choices about how images are read."""

    slice_half_width: int = 20
    """Distance, in slices, from the mean index of the slices with tumour; `near` keeps slices within it."""
    slices: str = ""
    """Slices of a volume: `near`, `lesion` (all that contain tumour) or `all`; empty: the data set's own."""
    plane: str = "axial"
    """Plane of the slices, one of core.imaging.volumes.PLANES."""
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Intensities (low, high) that become 0..1, by modality; they replace the data set's own window."""
    percentile: float = 95.0
    """Percentile of the complete volume that becomes 1 where no window applies."""
    colour: bool = False
    """True to keep red, green and blue where the data set has them."""
    labels: tuple[str, ...] = ()
    """Labels of a mask that are tumour, by number, name or colour; empty: the only label of the mask."""
    mask_threshold: Threshold = None
    """Smallest value that is tumour in a soft mask; half: half of full scale; None: it is rejected."""
    keep_empty: bool = False
    """True to read images and volumes without a lesion, too."""
    percentile_of: PercentileOf = "all"
    """Voxels of which `percentile` is taken: all, or those above 0."""
    complete: bool = False
    """True to read all slices of a volume, of which `slices` selects some; False to read only those."""
    intensities: IntensityRule | None = None
    """Rule of a trained model, which replaces `windows`, `percentile` and the rules by modality; None: no
    model is used."""


@dataclass(frozen=True, slots=True)
class RawCase:
    """One 2D image with its mask, in the precision of its source, before geometry and intensity change."""

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
    """Full scale of the integers in which the case is stored (see `core.imaging.intensity`)."""
    slice_index: int = -1
    """Index along the axis of the plane in RAS, or the data set's own count; -1 for still images."""
    spacing_mm: tuple[float, float] = field(default=(float("nan"), float("nan")))
    """Distance between rows and between columns; NaN where the source does not state it."""
    place: Placement | None = None
    """Position of a slice in its volume; None for still images."""
    labels: frozenset[str] = frozenset()
    """Labels of the masks that are tumour: those that the user chose, or the only one of each mask."""
    notes: tuple[str, ...] = ()
    """Remarks about the files that the user should see, without names of files or patients."""
    selected: bool = True
    """False for a slice that only completes its volume (see ReadOptions)."""


@dataclass(frozen=True, slots=True)
class VolumeRules:
    """Choices that a data set makes about its volumes where the user makes none (see ReadOptions)."""

    modality: str
    window: tuple[float, float] | None = None
    """Intensities that become 0..1; None: `formats.ranges.CT_WINDOW` for CT, else 0 to a percentile."""
    slices: str = "lesion"
    """`near`, `lesion` or `all`."""
    min_lesion_px: int = 1
    """Least number of tumour pixels in a slice that counts as containing tumour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One data set: facts about it, and the two functions that read its raw layout."""

    name: str
    modality: str
    """Empty where every source states its own, as in a manifest; so is `organ`."""
    organ: str
    licence: str
    folder: str
    """Name of the folder to which the original download unpacks."""
    layout: str
    """Files that the reader expects, for error messages."""
    list_sources: Callable[[Path], list[Source]]
    """Function from the root folder to its sources, in natural order; it decodes no image."""
    read_source: Callable[[Source, ReadOptions], list[RawCase]]
    """Function from one source to its cases. Raises BadCase or SkippedCase."""
    list_table: Callable[[Path, Path | None, Sequence[str]], Listing] | None = None
    """Function from a table, the folder of its files (None: the table's own), and the columns to keep, to its
    sources; None for data sets without a table."""
    complete: int = 0
    """Number of sources with a mask in the complete download; 0 where the data is the user's own."""
    server_test: int = 0
    """Images in the paper's test set of the server; 0 where no paper states it: a tenth of the patients."""
    volume_rules: VolumeRules | None = None
    """Slices and intensities of volumes; None for data sets of still images."""
    patient_unit: PatientUnit = "patient"
    """Unit that counts as a patient."""
    has_colour: bool = False
    """True if the images can be read in colour."""
    small_lesion_rule: SmallLesionRule = DEFAULT_RULE
    """Rule for images with small lesions, where the user gives none."""

    @property
    def knows_patients(self) -> bool:
        """True if the data set names its patients, or sequences that count as patients."""
        return self.patient_unit != "image"

    @property
    def is_still(self) -> bool:
        """True if sources are single images, which may be copies of each other, rather than volumes.

        A manifest's sources may be either; for it this is True.
        """
        return self.volume_rules is None


def find_root(reader: Reader, raw: Path) -> Path:
    """Return `raw` itself, or the folder (or the manifest) of the original download inside it.

    Raises:
        FlamesError: `raw` is not a folder, nor a manifest for the reader of manifests.
    """
    is_manifest = Path(reader.folder).suffix == ".csv" and raw.suffix.lower() == ".csv" and raw.is_file()
    if not (raw.is_dir() or is_manifest):
        kind = "CSV or folder" if reader.list_table else "folder"
        raise FlamesError(
            f"no {kind} {raw}: expected the raw {reader.name} data ({reader.layout}); "
            "put it there or pass --raw PATH"
        )
    inside = raw / reader.folder
    return inside if inside.exists() else raw


def require_sources(
    reader: Reader, root: Path, files: Path | None = None, keep: Sequence[str] = ()
) -> Listing:
    """Return the sources under `root`, at least one.

    Args:
        reader: the data set.
        root: its folder, or its table.
        files: folder of the files of a table, if it is not the table's own.
        keep: columns of a table that the user keeps.

    Raises:
        FlamesError: there are none, no image of a table exists, one has a name that cannot be written as
            UTF-8, or `files` is no folder.
    """
    if files and not files.is_dir():
        raise FlamesError(
            f"--root {files} is not a folder; expected that to which the CSV's paths are relative"
        )
    if reader.list_table:
        listing = reader.list_table(root, files, keep)
    else:
        listing = Listing(reader.list_sources(root))
    sources = listing.sources
    if not sources:
        raise FlamesError(f"no {reader.name} images in {root}: expected {reader.layout}; check --raw")
    if reader.list_table and not any(os.path.lexists(source.image) for source in sources):
        raise FlamesError(
            f"none of the {len(sources)} images of {root} is there, such as {sources[0].image}; "
            "correct the paths, or name the folder of the images with --root"
        )
    for source in sources:
        try:
            f"{source.name}{source.patient}".encode()
        except UnicodeEncodeError as error:
            raise FlamesError(
                f"{root} contains {source.name!a}, a name that is not UTF-8; rename it"
            ) from error
    return listing
