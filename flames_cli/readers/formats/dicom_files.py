"""Find single DICOM files and check their headers.

Only the tags in TAGS are read, so that no patient's name can appear in a message. Identifiers of patients are
compared with each other and never quoted.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.content import describe, recognise_file
from flames_cli.readers.formats.images import MAX_PIXELS
from flames_cli.readers.formats.nifti import MAX_BYTES


class NoImage(BadCase):
    """A DICOM file that is no image, such as a report, contours or a segmentation."""


PIXEL_TAGS = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
]
_NAMES = (
    *PIXEL_TAGS,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality"),
    *("FrameOfReferenceUID", "ReferencedSeriesSequence", "SourceImageSequence", "SegmentSequence"),
    *("StudiesContainingOtherReferencedInstancesSequence", "SegmentationType", "PixelPaddingValue"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("SequenceOfUltrasoundRegions", "EstimatedRadiographicMagnificationFactor"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("ModalityLUTSequence", "PresentationLUTShape"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
TAGS = [Tag(name) for name in _NAMES]
"""Tags of headers; the names would be looked up again for every file."""

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", LABEL_MAP)
"""UIDs of Segmentation Storage and Label Map Segmentation Storage; some releases of pydicom have no names."""

MAPS = ("1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.30")
"""UIDs of RT Dose Storage and Parametric Map Storage."""

DECODERS = {
    "1.2.840.10008.1.2.4.5": "pylibjpeg and pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.7": "pylibjpeg and pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.8": "pyjpegls",
    "1.2.840.10008.1.2.4.9": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.20": "pylibjpeg and pylibjpeg-openjpeg",
}
"""Python packages with which pydicom decodes an encoding, by the start of its UID."""

_MAGIC = b"DICM"
"""Marker after 128 bytes of preamble."""

_START = 4096
"""Number of bytes in which a file without preamble must name its class or its encoding."""

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations whose length has four bytes (PS3.5, 7.1.2)."""


def list_files(path: Path) -> list[Path]:
    """Return `path` itself, or the DICOM files in that folder, sorted by name; other files are ignored.

    Raises:
        BadCase: there is no DICOM file, or a file called .dcm is not one.
    """
    with named_errors(path):
        listed = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in listed if path == file or _is_candidate(file)]
        found = [file for file in files if is_dicom(file)]
        wrong = [file for file in files if file.suffix.lower() == ".dcm" and file not in set(found)]
    if wrong or (not found and path.is_file()):
        file = (wrong or [path])[0]
        raise BadCase(
            f"{file.name}: it is not a DICOM file, or is damaged ({describe(recognise_file(file))}); correct "
            "its name, or fetch it again"
        )
    if not found:
        raise BadCase(f"{path.name}: no DICOM files in it, expected those of one series")
    return found


def _is_candidate(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.name.upper() != "DICOMDIR"


def is_dicom(file: Path) -> bool:
    """Return True if the content of a file is DICOM, with or without its preamble of 128 bytes."""
    with file.open("rb") as stream:
        start = stream.read(_START)
    return start[128:132] == _MAGIC or bool(_bare_syntax(start))


def _bare_syntax(start: bytes) -> str:
    """Return the transfer syntax of a file that begins without a preamble; empty: it is not DICOM.

    Such a file begins with group 2, which names the transfer syntax, or with group 8, whose SOP class is then
    one of DICOM's own.
    """
    if start[:2] == b"\x02\0":
        syntax = _value(start, explicit=True, wanted=(0x0002, 0x0010))
        return syntax if syntax.startswith("1.2.840.10008.1.2") else ""
    if start[:2] == b"\x08\0":
        for explicit, syntax in ((True, ExplicitVRLittleEndian), (False, ImplicitVRLittleEndian)):
            if _value(start, explicit, wanted=(0x0008, 0x0016)).startswith("1.2.840.10008.5.1.4."):
                return str(syntax)
    return ""


def _value(start: bytes, explicit: bool, wanted: tuple[int, int]) -> str:
    """Return the text of one element in the first bytes of a data set; empty: the bytes do not contain it."""
    position, before = 0, (0, 0)
    while position + 12 <= len(start):
        tag = struct.unpack_from("<HH", start, position)
        if explicit and start[position + 4 : position + 6] not in _LONG:
            size, head = struct.unpack_from("<H", start, position + 6)[0], 8
        else:
            head = 12 if explicit else 8
            size = struct.unpack_from("<I", start, position + head - 4)[0]
        if tag <= before or tag > wanted:
            return ""
        if tag == wanted:
            return start[position + head : position + head + size].decode("latin-1").strip("\0 ")
        position, before = position + head + size, tag
    return ""


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
            f"{path.name}: cannot be opened ({type(error).__name__}); check its permissions and links"
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
        header = read_tags(path, TAGS, stop_before_pixels=True)
        # Elements are decoded on first access: access all of them here, where errors are caught.
        for _ in header.iterall():
            continue
        _check_size(path, header)
        _check_depth(path, header)
        _check_scale(path, header)
    return header


def read_tags(path: Path, tags: list[BaseTag], stop_before_pixels: bool = False) -> Dataset:
    """Return some elements of a file that can be decoded here, with its transfer syntax in `file_meta`.

    Raises:
        BadCase: the file does not name its transfer syntax, or it cannot be decoded here.
    """
    syntax = _read_syntax(path)
    # Warnings quote values; the values that matter are checked here.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, specific_tags=tags, force=True)
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def _read_syntax(path: Path) -> UID:
    """Check the encoding before anything else is read: pydicom would inflate a deflated file of any size."""
    with path.open("rb") as stream:
        start = stream.read(_START)
    has_preamble = start[128:132] == _MAGIC
    named = read_file_meta_info(path).get("TransferSyntaxUID", "") if has_preamble else _bare_syntax(start)
    syntax = UID(named)
    if not syntax:
        raise BadCase(f"{path.name}: it does not name its transfer syntax; export it again")
    try:
        decodable = syntax != DeflatedExplicitVRLittleEndian and get_decoder(syntax).is_available
    except NotImplementedError:
        decodable = False
    if not decodable:
        raise _undecodable(path, syntax)
    return syntax


def _undecodable(path: Path, syntax: UID) -> BadCase:
    known = syntax.name if syntax.is_valid else "nothing known"
    package = next((name for start, name in DECODERS.items() if syntax.startswith(start)), "")
    install = f"install the Python packages {package}, or " if package else ""
    return BadCase(
        f"{path.name}: it is stored as {known}, which cannot be decoded here; {install}"
        "export it uncompressed, or decompress it with DCMTK (dcmdjpeg) or GDCM (gdcmconv --raw)"
    )


def _check_depth(path: Path, header: Dataset) -> None:
    """Check that the decoder can decode the file's number of bits: Pillow decodes only JPEG of 8 bits."""
    syntax = header.file_meta.TransferSyntaxUID
    bits, samples = int(header.get("BitsStored") or 8), int(header.get("SamplesPerPixel") or 1)
    deep = syntax == JPEGExtended12Bit or (syntax.startswith("1.2.840.10008.1.2.4.9") and samples > 1)
    if deep and bits > 8 and get_decoder(syntax).available_plugins == ("pillow",):
        raise _undecodable(path, syntax)


def _check_scale(path: Path, header: Dataset) -> None:
    """Check that the intensities are a linear function of the stored values."""
    if header.get("ModalityLUTSequence"):
        raise BadCase(
            f"{path.name}: its intensities are in a table (ModalityLUTSequence), expected slope and "
            "intercept; convert it to PNG of 16 bits, for example with DCMTK (dcm2img)"
        )


def require_plain_labels(path: Path, header: Dataset) -> None:
    """Raise BadCase for a mask that shows its label 0 white: programs differ in whether they invert it."""
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        raise BadCase(
            f"{path.name}: the mask is MONOCHROME1, which shows 0 white, expected MONOCHROME2, in which 0 is "
            "background; save it as that, as PNG or as NIfTI"
        )


def _check_size(path: Path, header: Dataset) -> None:
    if "Rows" not in header:
        raise NoImage(
            f"{path.name}: it contains no pixels, expected slices or DICOM-SEG (RTSTRUCT is not read); take "
            "it out of the folder, or convert it"
        )
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
