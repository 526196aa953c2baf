"""CVC-ClinicDB: polyps in 612 frames of 29 colonoscopy sequences."""

import csv
import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.errors import FlamesError
from flames_cli.readers.base import RawCase, ReadOptions, Source, read_all
from flames_cli.readers.formats.images import read_still
from flames_cli.readers.pairs import find_named, pair_up

NAME = "cvc-clinicdb"
ALIASES: tuple[str, ...] = ("cvc", "cvc-612", "cvcclinicdb")
MODALITY = "Endoscopy"
ORGAN = "colon"
LICENCE = "research and education only (Bernal et al. 2015)"
FOLDER = "CVC-ClinicDB"
LAYOUT = "Original/1.tif (or .png) with Ground Truth/1.tif, or both folders inside PNG/ or TIF/"
COMPLETE = 612
SERVER_TEST = 0
STILL = True
KNOWS_PATIENTS = False
COLOUR = True
SMALL = SmallLesionRule("box", 150.0, 100.0)
"""As FedGS has it for PolypGen: endoscopy of the colon too."""

SEQUENCE_STARTS = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
"""The first frame of each sequence, by the set's own page (polyp.grand-challenge.org/CVCClinicDB)."""

METADATA = "metadata.csv"
COLUMNS = ("sequence_id", "png_image_path")

_FILE = re.compile(r"(\d+)\.(?:png|tiff?)", re.IGNORECASE)


def list_sources(root: Path) -> list[Source]:
    """Every numbered frame; its sequence counts as its patient, so that neighbouring frames stay together.

    Whose sequences they are stays unknown: the 29 come from 25 studies. The sequence is that of Kaggle's
    `metadata.csv`, else that of SEQUENCE_STARTS. Where a download holds the frames as PNG and as TIFF, PNG is
    read.

    Raises:
        FlamesError: there is a `metadata.csv` that cannot be read or does not name sequences.
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
    """A frame beyond the set's own is a sequence of its own."""
    return str(bisect_right(SEQUENCE_STARTS, frame)) if 1 <= frame <= COMPLETE else f"of-{frame}"


def _read_sequences(path: Path) -> dict[str, str]:
    """{frame: sequence} by the CSV, where there is one."""
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
    """One case: the frame with its mask, whose border some copies of the set have smoothed."""
    return read_still(source, options, f"Ground Truth/{source.image.name}", allowed=None)


def iter_raw_cases(root: Path) -> Iterator[RawCase]:
    """Every case under `root`, one image in memory at a time."""
    return read_all(list_sources(root), read_source)
