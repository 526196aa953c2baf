"""Recognise the format of a file by its first bytes, where its name says nothing or something else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["still", "nifti", "dicom", ""]
"""Kind of reader for a file; empty where none reads it."""

START_BYTES = 352
"""Number of bytes at a file's start that are enough to recognise it."""


@dataclass(frozen=True, slots=True)
class Content:
    """Format of a file."""

    name: str
    """Name of the format; empty if it is not known."""
    advice: str
    """Advice for a file of this format whose name says otherwise."""
    kind: Kind = ""


_UNKNOWN = Content("", "convert it to one of these")
_TO_PNG, _TO_NIFTI = "convert it to PNG", "convert it to NIfTI, for example with SimpleITK"
_KNOWN: tuple[tuple[int, bytes, Content], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Content("PNG", "name it .png", "still")),
    (0, b"\xff\xd8\xff", Content("JPEG", "name it .jpg", "still")),
    (0, b"II*\0", Content("TIFF", "name it .tif", "still")),
    (0, b"MM\0*", Content("TIFF", "name it .tif", "still")),
    (0, b"II+\0", Content("TIFF", "name it .tif", "still")),
    (0, b"MM\0+", Content("TIFF", "name it .tif", "still")),
    (0, b"BM", Content("BMP", "name it .bmp", "still")),
    (344, b"n+1\0", Content("NIfTI", "name it .nii", "nifti")),
    (4, b"n+2\0\r\n\x1a\n", Content("NIfTI", "name it .nii", "nifti")),
    (128, b"DICM", Content("DICOM", "name it .dcm", "dicom")),
    (0, b"\x1f\x8b", Content("gzip", "name it .nii.gz if it contains NIfTI, else unpack it")),
    (344, b"ni1\0", Content("a pair of NIfTI files (.hdr, .img)", "convert it to .nii")),
    (4, b"ni2\0\r\n\x1a\n", Content("a pair of NIfTI files (.hdr, .img)", "convert it to .nii")),
    (0, b"\x5c\x01\0\0", Content("a header of Analyze", "convert it to .nii")),
    (0, b"\0\0\x01\x5c", Content("a header of Analyze", "convert it to .nii")),
    (0, b"GIF8", Content("GIF", _TO_PNG)),
    (8, b"WEBP", Content("WebP", _TO_PNG)),
    (0, b"\0\0\0\x0cjP  ", Content("JPEG 2000", _TO_PNG)),
    (0, b"\xff\x4f\xff\x51", Content("JPEG 2000", _TO_PNG)),
    (4, b"ftyp", Content("HEIF or a video", _TO_PNG)),
    (0, b"%PDF", Content("PDF", _TO_PNG)),
    (0, b"NRRD", Content("NRRD", _TO_NIFTI)),
    (0, b"ObjectType", Content("MetaImage (.mha, .mhd)", _TO_NIFTI)),
    (0, b"\x93NUMPY", Content("a NumPy array", "convert it to PNG or NIfTI")),
    (0, b"MATLAB", Content("a MATLAB file", "convert it to PNG or NIfTI")),
    (0, b"PK\x03\x04", Content("a ZIP archive", "unpack it")),
    (0, b"<", Content("a web page or XML", "fetch the file again; the server may have sent an error")),
    (0, b"version https://git-lfs", Content("a pointer of Git LFS", "fetch the file with git lfs pull")),
)


def recognise(start: bytes) -> Content:
    """Return the format of a file that begins with `start`."""
    return next((known for at, magic, known in _KNOWN if start[at:].startswith(magic)), _UNKNOWN)


def recognise_file(path: Path) -> Content:
    """Return the format of the file at `path`; an unknown one if it is no file that can be read."""
    if not path.is_file():
        return _UNKNOWN
    try:
        with path.open("rb") as stream:
            return recognise(stream.read(START_BYTES))
    except OSError:
        return _UNKNOWN


def is_text(path: Path) -> bool:
    """Return whether a file of no known format begins as text, or is empty."""
    try:
        with path.open("rb") as stream:
            start = stream.read(START_BYTES)
    except OSError:
        return False
    if recognise(start).name:
        return False
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)


def describe(content: Content) -> str:
    """Return the reason why a file cannot be read under its name, for the brackets of a message."""
    return f"its content is {content.name}; {content.advice}" if content.name else "of no known format"
