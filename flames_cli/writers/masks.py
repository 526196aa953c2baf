"""Write a mask or probabilities in the geometry of the image, in the format that fits it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels
from flames_cli.errors import install_extra
from flames_cli.readers.formats.dicom import arrange_series
from flames_cli.readers.formats.dicom_files import read_header
from flames_cli.readers.formats.exif import read_orientation
from flames_cli.readers.formats.nifti import read_volume_header
from flames_cli.readers.inputs import InputImage
from flames_cli.writers.dicom_seg import NotReferable, is_available, write_series_mask, write_still_mask
from flames_cli.writers.label import Content, ModelLabel, Written, name_file
from flames_cli.writers.nifti import header_of, write_nifti
from flames_cli.writers.stills import write_png

UPRIGHT = "the EXIF tag turns the image; the mask is upright, as viewers show the image, and has no such tag"
"""Remark on the mask of a still."""

NO_HIGHDICOM = f"the mask is {{}}, since DICOM-SEG needs another package: {install_extra('dicom')}"
NOT_REFERABLE = "the mask is {}, since no DICOM-SEG can refer to the image ({})"
"""Remarks on a mask of a DICOM image that has another format."""


def write_mask(
    mask: NDArray[Any], image: InputImage, target: Path, by: ModelLabel, overwrite: bool = False
) -> Written:
    """Write the mask of an input: PNG for a still, NIfTI for NIfTI, DICOM-SEG for DICOM.

    Without highdicom, the mask of a DICOM series is NIfTI and that of a DICOM still is PNG.

    Args:
        mask: 0 and 1 in the geometry of the source: H×W, or X×Y×Z in the order of the axes of the file
            (of a series: columns×rows×slices along their normal; see `Placement.shape`).
        image: the input.
        target: path of the file without its suffix.
        by: the model.
        overwrite: True to replace a file that exists.

    Raises:
        ValueError: the mask does not have the shape of the source.
        BadCase: the source cannot be read any more.
        FlamesError: the file exists.
        NotWritten: the folder cannot be written or the disk is full.
    """
    return _write(_Job(np.asarray(np.asarray(mask) != 0, np.uint8), image, target, "mask", by, overwrite))


def write_probabilities(
    probabilities: NDArray[Any], image: InputImage, target: Path, by: ModelLabel, overwrite: bool = False
) -> Written:
    """Write the probabilities (0 to 1) of an input: PNG of 16 bits for a still, else NIfTI (float32).

    Arguments and errors are those of `write_mask`.
    """
    values = np.asarray(probabilities, np.float32)
    return _write(_Job(values, image, target, "probability", by, overwrite))


@dataclass(frozen=True, slots=True)
class _Job:
    """Values to write, and all that decides how."""

    values: Pixels
    image: InputImage
    target: Path
    content: Content
    by: ModelLabel
    overwrite: bool

    def path(self, suffix: str) -> Path:
        return name_file(self.target, suffix, self.overwrite)

    def require_shape(self, shape: tuple[int, ...]) -> None:
        if self.values.shape != shape:
            raise ValueError(f"the mask is {self.values.shape}, its image {shape}")


def _write(job: _Job) -> Written:
    match job.image.kind:
        case "nifti":
            return _write_nifti(job)
        case "series":
            return _write_series(job)
        case "dicom-still":
            return _write_dicom_still(job)
        case _:
            notes = (UPRIGHT,) if read_orientation(job.image.files[0]) != 1 else ()
            return _write_png(job, notes)


def _write_nifti(job: _Job) -> Written:
    header = read_volume_header(job.image.files[0])
    job.require_shape(tuple(header.get_data_shape()[:3]))
    path = job.path(".nii.gz")
    write_nifti(path, job.values, header, job.content, job.by)
    return Written(path)


def _write_series(job: _Job) -> Written:
    series = arrange_series(job.image.files[0].parent, files=job.image.files)
    job.require_shape(series.shape)
    notes: tuple[str, ...] = ()
    if job.content == "mask":
        path = job.path(".dcm")
        notes = _try_dicom(partial(write_series_mask, path, job.values, series, job.by), "NIfTI")
        if not notes:
            return Written(path)
    path = job.path(".nii.gz")
    write_nifti(path, job.values, header_of(series.affine), job.content, job.by)
    return Written(path, notes)


def _write_dicom_still(job: _Job) -> Written:
    file, frame = job.image.files[0], job.image.source.frame
    header = read_header(file)
    job.require_shape((int(header.Rows), int(header.Columns)))
    notes: tuple[str, ...] = ()
    if job.content == "mask":
        path = job.path(".dcm")
        notes = _try_dicom(partial(write_still_mask, path, job.values, file, frame, job.by), "PNG")
        if not notes:
            return Written(path)
    return _write_png(job, notes)


def _write_png(job: _Job, notes: tuple[str, ...]) -> Written:
    if job.values.ndim != 2:
        raise ValueError(f"the mask has {job.values.ndim} axes, expected 2")
    path = job.path(".png")
    write_png(path, job.values, job.content, job.by)
    return Written(path, notes)


def _try_dicom(write: Callable[[], None], instead: str) -> tuple[str, ...]:
    """Write a DICOM-SEG; return a remark if another format must take its place, else none."""
    if not is_available():
        return (NO_HIGHDICOM.format(instead),)
    try:
        write()
    except NotReferable as error:
        return (NOT_REFERABLE.format(instead, error),)
    return ()
