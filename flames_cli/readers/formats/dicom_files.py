"""Find single DICOM files, check their headers and decode their pixels.

Only the tags in TAGS are read, so that no patient's name can appear in a message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.images import MAX_PIXELS
from flames_cli.readers.formats.nifti import MAX_BYTES

PIXEL_TAGS = [
    *(
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
    ),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
]
TAGS = [
    *PIXEL_TAGS,
    *("SOPClassUID", "SeriesInstanceUID", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SegmentationType"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""UIDs of Segmentation Storage and Label Map Segmentation Storage; some releases of pydicom have no names."""

_MAGIC = b"DICM"
"""Marker after 128 bytes of preamble."""


def list_files(path: Path) -> list[Path]:
    """Return `path` itself, or the DICOM files in that folder, sorted by name; other files are ignored.

    Raises:
        BadCase: there is no DICOM file, or a file called .dcm is not one.
    """
    with named_errors(path):
        listed = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in listed if path == file or _is_candidate(file)]
        found = [file for file in files if _has_magic(file)]
        wrong = [file for file in files if file.suffix.lower() == ".dcm" and file not in set(found)]
    if wrong or (not found and path.is_file()):
        raise BadCase(f"{(wrong or [path])[0].name}: it is not a DICOM file, or is damaged; fetch it again")
    if not found:
        raise BadCase(f"{path.name}: no DICOM files in it, expected those of one series")
    return found


def _is_candidate(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.name.upper() != "DICOMDIR"


def _has_magic(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == _MAGIC


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn every error of pydicom into a BadCase, without its text, which may quote the file."""
    try:
        yield
    except BadCase:
        raise
    except FileNotFoundError as error:
        raise BadCase(f"{path.name}: there is no such file or folder") from error
    except OSError as error:
        raise BadCase(
            f"{path.name}: cannot be opened ({type(error).__name__}); check who may read it, and links"
        ) from error
    except Exception as error:
        raise BadCase(
            f"{path.name}: cannot be read as DICOM ({type(error).__name__}); it is damaged, fetch it again"
        ) from error


def read_header(path: Path) -> Dataset:
    """Return the header with the tags of TAGS, without pixels.

    Raises:
        BadCase: the file is damaged, cannot be decoded here, or states an impossible size.
    """
    with named_errors(path):
        _check_syntax(path)
        _trust_values()
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        # Elements are decoded on first access: access all of them here, where errors are caught.
        for _ in header.iterall():
            continue
        _check_size(path, header)
    return header


def _trust_values() -> None:
    """Turn off warnings that quote values; the values that matter are checked here."""
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _check_syntax(path: Path) -> None:
    """Check the encoding before anything else is read: pydicom would inflate a deflated file of any size."""
    syntax = UID(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    if not syntax:
        raise BadCase(f"{path.name}: it does not name its transfer syntax; export it again")
    try:
        decodable = syntax != DeflatedExplicitVRLittleEndian and get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        known = syntax.name if syntax.is_valid else "nothing known"
        raise BadCase(
            f"{path.name}: it is stored as {known}, which cannot be decoded here; "
            "export it uncompressed, or decompress it with DCMTK (dcmdjpeg) or GDCM (gdcmconv --raw)"
        )


def _check_size(path: Path, header: Dataset) -> None:
    if "Rows" not in header:
        raise BadCase(f"{path.name}: it holds no pixels, expected slices or DICOM-SEG (RTSTRUCT is not read)")
    rows, columns, frames = int(header.Rows), int(header.Columns), count_frames(header)
    bits = int(header.BitsAllocated)
    if min(rows, columns, frames) < 1 or bits not in (1, 8, 16, 32):
        raise BadCase(f"{path.name}: its header claims {rows}×{columns} pixels × {frames} of {bits} bits")
    if rows * columns > MAX_PIXELS or count_bytes(header) > MAX_BYTES:
        raise BadCase(
            f"{path.name}: its header claims {rows}×{columns} pixels × {frames}; it cannot be right"
        )


def count_frames(header: Dataset) -> int:
    """Return the number of images in the file."""
    return int(header.get("NumberOfFrames") or 1)


def count_bytes(header: Dataset) -> int:
    """Return the number of bytes of the decoded pixels."""
    bits = int(header.Rows) * int(header.Columns) * count_frames(header) * int(header.BitsAllocated)
    return (bits * int(header.get("SamplesPerPixel") or 1) + 7) // 8


def is_segmentation(path: Path) -> bool:
    """Return True if the file at `path`, or the only one in that folder, is a DICOM-SEG. Raises BadCase."""
    files = list_files(path)
    return len(files) == 1 and read_header(files[0]).get("SOPClassUID") in SEGMENTATIONS


def read_frames(path: Path) -> NDArray[Any]:
    """Return the stored values of a grey file, frames×rows×columns.

    Raises:
        BadCase: pixels are missing or incomplete, or cannot be decoded.
    """
    with named_errors(path):
        dataset = pydicom.dcmread(path, specific_tags=[*PIXEL_TAGS, "PixelData"])
        if "PixelData" not in dataset:
            raise BadCase(f"{path.name}: it holds no pixels, expected an image")
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            _require_all(path, dataset)
        pixels = np.asarray(dataset.pixel_array)
    return pixels.reshape(count_frames(dataset), int(dataset.Rows), int(dataset.Columns))


def _require_all(path: Path, dataset: Dataset) -> None:
    claimed = count_bytes(dataset)
    if len(dataset.PixelData) < claimed:
        raise BadCase(
            f"{path.name}: it holds {len(dataset.PixelData)} bytes of pixels, its header claims {claimed}"
        )
    # Some writers pad, of which pydicom would warn.
    dataset.PixelData = dataset.PixelData[: claimed + claimed % 2]
