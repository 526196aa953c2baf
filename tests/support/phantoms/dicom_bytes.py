"""DICOM files written byte by byte (PS3.5, chapter 7 and annex A), not by the library that reads them."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LONG = ("OB", "OW", "SQ", "UN", "UT")
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "FD": "d"}
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_BASELINE, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
CLASSES = {
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US clip": "1.2.840.10008.5.1.4.1.1.3.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "LABELMAP": "1.2.840.10008.5.1.4.1.1.66.7",
}

Elements = Mapping[tuple[int, int], tuple[str, Any]]
"""Value representation and value by tag. A value is text, bytes, numbers, or for SQ a list of Elements."""

CLASS, INSTANCE = (0x0008, 0x0016), (0x0008, 0x0018)
MODALITY, PATIENT_ID = (0x0008, 0x0060), (0x0010, 0x0020)
PATIENT_NAME = (0x0010, 0x0010)
STUDY, SERIES, FRAME_OF_REFERENCE = (0x0020, 0x000D), (0x0020, 0x000E), (0x0020, 0x0052)
POSITION, ORIENTATION = (0x0020, 0x0032), (0x0020, 0x0037)
SAMPLES, PHOTOMETRIC, PLANAR = (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0006)
FRAMES, ROWS, COLUMNS = (0x0028, 0x0008), (0x0028, 0x0010), (0x0028, 0x0011)
SPACING, IMAGER_SPACING, MAGNIFICATION = (0x0028, 0x0030), (0x0018, 0x1164), (0x0018, 0x1114)
ALLOCATED, STORED, HIGH, SIGNED = ((0x0028, number) for number in (0x0100, 0x0101, 0x0102, 0x0103))
PADDING, INTERCEPT, SLOPE, RESCALE_TYPE = ((0x0028, number) for number in (0x0120, 0x1052, 0x1053, 0x1054))
PIXELS = (0x7FE0, 0x0010)


def encode(elements: Elements, explicit: bool = True) -> bytes:
    """Return a data set, its elements in the order of their tags; sequences have undefined lengths."""
    return b"".join(
        _element(tag, *elements[tag], explicit) for tag in sorted(elements) if elements[tag][1] is not None
    )


def _element(tag: tuple[int, int], kind: str, value: Any, explicit: bool) -> bytes:
    head = struct.pack("<HH", *tag)
    if kind == "SQ":
        items = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
            + encode(item, explicit)
            + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
            for item in value
        )
        size = b"SQ\0\0\xff\xff\xff\xff" if explicit else b"\xff\xff\xff\xff"
        return head + size + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    if isinstance(value, tuple):  # the fragments of encapsulated pixels, after an empty table of offsets
        fragments = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, len(one) + len(one) % 2) + one + bytes(len(one) % 2)
            for one in (b"", *value)
        )
        return head + b"OB\0\0\xff\xff\xff\xff" + fragments + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    content = _content(kind, value)
    content += (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(content) % 2)
    if not explicit:
        return head + struct.pack("<I", len(content)) + content
    if kind in LONG:
        return head + kind.encode() + struct.pack("<HI", 0, len(content)) + content
    return head + kind.encode() + struct.pack("<H", len(content)) + content


def _content(kind: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    values = value if isinstance(value, list) else [value]
    if kind in NUMBERS:
        return struct.pack(f"<{len(values)}{NUMBERS[kind]}", *values)
    return "\\".join(str(one) for one in values).encode()


def image(kind: str, shape: tuple[int, int], pixels: Any, bits: int = 8, **others: Any) -> dict[Any, Any]:
    """Return the elements of a grey image without a position.

    Args:
        kind: one of CLASSES.
        shape: rows and columns.
        pixels: bytes as they are stored.
        bits: BitsAllocated and BitsStored.
        others: elements by the names of this module in lower case; None takes one out.
    """
    elements = {
        CLASS: ("UI", CLASSES[kind]),
        INSTANCE: ("UI", "1.2.3.4"),
        MODALITY: ("CS", kind[:2] if kind != "SC" else "OT"),
        PATIENT_NAME: ("PN", "Secret^Person"),
        PATIENT_ID: ("LO", "SECRET-7"),
        STUDY: ("UI", "1.2.3"),
        SERIES: ("UI", "1.2.3.1"),
        SAMPLES: ("US", 1),
        PHOTOMETRIC: ("CS", "MONOCHROME2"),
        FRAMES: ("IS", None),
        ROWS: ("US", shape[0]),
        COLUMNS: ("US", shape[1]),
        ALLOCATED: ("US", bits),
        STORED: ("US", bits),
        HIGH: ("US", bits - 1),
        SIGNED: ("US", 0),
        PIXELS: ("OW" if bits > 8 else "OB", pixels),
    }
    kinds = {
        **dict.fromkeys(("POSITION", "ORIENTATION", "SPACING", "IMAGER_SPACING", "MAGNIFICATION"), "DS"),
        **dict.fromkeys(("INTERCEPT", "SLOPE"), "DS"),
        **dict.fromkeys(("PLANAR", "PADDING"), "US"),
        **{"FRAME_OF_REFERENCE": "UI", "RESCALE_TYPE": "LO"},
    }
    for name, value in others.items():
        tag = globals()[name.upper()]
        elements[tag] = (elements[tag][0] if tag in elements else kinds[name.upper()], value)
    return elements


def write(
    path: Path, elements: Elements, syntax: str = EXPLICIT, preamble: bool = True, meta: bool = True
) -> Path:
    """Write a file, with or without its preamble and its group 2."""
    group = encode({(0x0002, 0x0001): ("OB", b"\0\1"), (0x0002, 0x0010): ("UI", syntax)})
    start = bytes(128) + b"DICM" if preamble else b""
    size = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group))
    body = encode(elements, explicit=syntax != IMPLICIT)
    path.write_bytes(start + (size + group if meta else b"") + body)
    return path


def sequence(*items: Elements) -> tuple[str, Iterable[Elements]]:
    """Return the value of a sequence."""
    return ("SQ", items)
