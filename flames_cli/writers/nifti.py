"""Write masks and probabilities as NIfTI, in the geometry of a NIfTI file or of a DICOM series."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from flames_cli.arrays import Floats
from flames_cli.store.files.atomic import replacing
from flames_cli.writers.label import Content, ModelLabel

_INTENTS = {"mask": (1002, "tumour"), "probability": (1001, "probability")}
"""Code and name of NIfTI's intent: labels, and an estimate."""
_TYPES: dict[Content, str] = {"mask": "u1", "probability": "<f4"}
_DESCRIPTION, _NAME = 79, 15
"""Bytes of the header's texts, without their last, which is 0."""
_UNUSED = (
    "data_type",
    "db_name",
    "aux_file",
    "descrip",
    "intent_p1",
    "intent_p2",
    "intent_p3",
    "glmax",
    "glmin",
)
"""Fields that describe the values of the source, or that nothing reads."""
_SLICES = ("slice_start", "slice_end", "slice_code", "slice_duration")
_AFTER_HEADER = 4
"""Bytes that state that no extensions follow."""


def write_nifti(
    path: Path, values: NDArray[Any], header: nib.Nifti1Header, content: Content, by: ModelLabel
) -> None:
    """Write X×Y×Z values with the geometry of `header`: affine, qform and sform with their codes, and units.

    The version of NIfTI is that of the header; bytes are little-endian, compressed by gzip, without a time.

    Raises:
        NotWritten: the folder cannot be written or the disk is full.
    """
    made = header.as_byteswapped("<")
    dtype: np.dtype[Any] = np.dtype(_TYPES[content])
    made.set_data_shape(values.shape)
    made.set_data_dtype(dtype)
    for name in (*_UNUSED, *_SLICES):
        if name in made:
            made[name] = 0 if made[name].dtype.kind != "S" else b""
    made["scl_slope"], made["scl_inter"] = 1, 0
    made["cal_min"], made["cal_max"] = 0, 1
    made["pixdim"][4:] = 1
    made["descrip"] = by.describe(content).encode("ascii", "replace")[:_DESCRIPTION]
    made["intent_code"], name = _INTENTS[content]
    made["intent_name"] = name.encode()[:_NAME]
    made["magic"] = made.single_magic
    made["vox_offset"] = made.sizeof_hdr + _AFTER_HEADER
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        # Neither a name nor a time in the file, so that the same mask has the same bytes.
        igzip.IGzipFile("", "wb", fileobj=file, mtime=0) as stream,
    ):
        stream.write(made.binaryblock + bytes(_AFTER_HEADER))
        for index in range(values.shape[2]):
            stream.write(values[:, :, index].astype(dtype, copy=False).tobytes(order="F"))


def header_of(affine: Floats) -> nib.Nifti1Header:
    """Return a header with an affine matrix (voxels to mm, RAS), as scanner coordinates.

    A sheared matrix, as of a tilted gantry, is an sform alone: a qform cannot represent it.
    """
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "sec")
    header.set_sform(affine, 1)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
        header.set_qform(affine, 1)
    return header
