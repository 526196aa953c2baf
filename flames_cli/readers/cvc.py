"""CVC-ClinicDB: polyps in 612 frames of 29 colonoscopy sequences."""

import csv
import re
from bisect import bisect_right
from pathlib import Path, PureWindowsPath

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.readers.base import RawCase, Reader, ReadOptions, Source
from flames_cli.readers.formats.stills import read_still
from flames_cli.readers.pairs import find_named, pair_up

COMPLETE = 612

SEQUENCE_STARTS = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
"""First frame of each sequence, from the data set's own page (polyp.grand-challenge.org/CVCClinicDB)."""

METADATA = "metadata.csv"
COLUMNS = ("sequence_id", "png_image_path")

_FILE = re.compile(r"(\d+)\.(?:png|tiff?)", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Return every numbered frame; its sequence counts as its patient, so that neighbours stay together.

    The patients of the sequences are unknown: the 29 come from 25 studies. The sequence is taken from
    Kaggle's `metadata.csv`, or else from SEQUENCE_STARTS. If a download contains the frames both as PNG and
    as TIFF, PNG is read.

    Raises:
        FlamesError: `metadata.csv` exists but cannot be read or does not name sequences.
    """
    folders = [folder for folder in (root, root / "PNG", root / "TIF") if (folder / "Original").is_dir()]
    if not folders:
        return []
    images = find_named(folders[0] / "Original", _FILE)
    masks = find_named(folders[0] / "Ground Truth", _FILE)
    sequences = _read_sequences(root / METADATA)
    return [
        Source(
            name=pair.image.name,
            patient=f"sequence-{sequences.get(pair.key) or _sequence_of(int(pair.key))}",
            image=pair.image,
            masks=pair.masks,
            case=pair.key,
        )
        for pair in pair_up(images, masks, folders[0] / "Original" / "{}.png")
    ]


def _sequence_of(frame: int) -> str:
    """Return the sequence of a frame; a frame that the data set does not have is a sequence by itself."""
    return str(bisect_right(SEQUENCE_STARTS, frame)) if 1 <= frame <= COMPLETE else f"of-{frame}"


def _read_sequences(path: Path) -> dict[str, str]:
    """Read {frame: sequence} from the CSV; without a CSV the result is empty."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {*COLUMNS} <= {*(rows.fieldnames or ())}:
                raise FlamesError(
                    f"{METADATA}: its columns are {rows.fieldnames}, expected {' and '.join(COLUMNS)}; "
                    "restore it from the download, or remove it"
                )
            cells = [tuple(row[column] or "" for column in COLUMNS) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FlamesError(f"{METADATA} cannot be read as a CSV in UTF-8; restore it or remove it") from error
    return {PureWindowsPath(frame).stem: sequence.strip() for sequence, frame in cells}


def read_source(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return one case: the frame with its mask, whose border is smoothed in some copies of the data set."""
    return read_still(source, options, f"Ground Truth/{source.image.name}", threshold="half")


CVC_CLINICDB = Reader(
    name="cvc-clinicdb",
    modality="Endoscopy",
    organ="colon",
    licence="research and education only (Bernal et al. 2015)",
    folder="CVC-ClinicDB",
    layout="Original/1.tif (or .png) with Ground Truth/1.tif, or both folders inside PNG/ or TIF/",
    list_sources=list_sources,
    read_source=read_source,
    complete=COMPLETE,
    patient_unit="sequence",
    has_colour=True,
    # FedGS's rule for PolypGen, which is endoscopy of the colon too.
    small_lesion_rule=SmallLesionRule("box", 150.0, 100.0),
)
