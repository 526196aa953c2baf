"""NIfTI files written byte by byte (nifti1.h, nifti2.h), not by the library that reads them."""

import gzip
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FIELDS_1 = {
    "sizeof_hdr": (0, "i"), "dim_info": (39, "B"), "dim": (40, "8h"), "intent_code": (68, "h"),
    "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
    "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "B"), "cal_max": (124, "f"),
    "descrip": (148, "80s"), "aux_file": (228, "24s"), "qform_code": (252, "h"), "sform_code": (254, "h"),
    "quatern": (256, "3f"), "qoffset": (268, "3f"), "srow": (280, "12f"), "intent_name": (328, "16s"),
    "magic": (344, "4s"),
}  # fmt: skip
FIELDS_2 = {
    "sizeof_hdr": (0, "i"), "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"),
    "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"), "scl_inter": (184, "d"),
    "cal_max": (192, "d"), "descrip": (240, "80s"), "aux_file": (320, "24s"), "qform_code": (344, "i"),
    "sform_code": (348, "i"), "quatern": (352, "3d"), "qoffset": (376, "3d"), "srow": (400, "12d"),
    "xyzt_units": (500, "i"), "intent_code": (504, "i"), "intent_name": (508, "16s"), "dim_info": (524, "B"),
}  # fmt: skip
"""Offset and type of the fields of both versions."""
TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512}
MM, SECONDS = 2, 8


def nifti_bytes(voxels: np.ndarray, order: str = "<", version: int = 1, **fields: Any) -> bytes:
    """Return a file with these voxels, the first axis fastest; `fields` replaces values of the header."""
    size, known = (348, FIELDS_1) if version == 1 else (540, FIELDS_2)
    kind = voxels.dtype.str[1:]
    values: dict[str, Any] = {
        "sizeof_hdr": size,
        "dim": (voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim)),
        "datatype": TYPES[kind],
        "bitpix": voxels.dtype.itemsize * 8,
        "pixdim": (1.0, *[1.0] * 7),
        "vox_offset": size + 4,
        "xyzt_units": MM | SECONDS,
        "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n",
        **fields,
    }
    content = bytearray(size + 4)
    for name, value in values.items():
        offset, form = known[name]
        struct.pack_into(order + form, content, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(content) + voxels.astype(order + kind).tobytes(order="F")


def fields_of(content: bytes) -> Mapping[str, Any]:
    """Return the header of a file, compressed or not, as numbers and texts by name."""
    data = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    order = "<" if struct.unpack_from("<i", data)[0] in (348, 540) else ">"
    known = FIELDS_1 if struct.unpack_from(order + "i", data)[0] == 348 else FIELDS_2
    found = {name: struct.unpack_from(order + form, data, offset) for name, (offset, form) in known.items()}
    return {
        name: value[0].rstrip(b"\0").decode() if isinstance(value[0], bytes) else value
        for name, value in found.items()
    }


def write_nifti(path: Path, content: bytes) -> Path:
    """Write a file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def rows_of(affine: np.ndarray) -> tuple[float, ...]:
    """Return the rows of an affine matrix as the field srow."""
    return tuple(float(value) for value in affine[:3].ravel())
