"""Write a mask or probabilities in the geometry of the image, in the format that fits it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Pixels
from flames_cli.readers.formats.dicom import arrange_series
from flames_cli.readers.formats.exif import read_orientation
from flames_cli.readers.formats.nifti import read_volume_header
from flames_cli.readers.inputs import InputImage
from flames_cli.writers.label import Content, ModelLabel, Written, name_file
from flames_cli.writers.nifti import header_of, write_nifti
from flames_cli.writers.stills import write_png

UPRIGHT = "the EXIF tag turns the image; the mask is upright, as viewers show the image, and has no such tag"
NO_HIGHDICOM = (
    "DICOM-SEG needs the package highdicom: pip install 'flames-cli[dicom]'; the mask is {} instead"
)


def write_mask(
    mask: NDArray[Any], image: InputImage, target: Path, by: ModelLabel, overwrite: bool = False
) -> Written:
    """Write the mask of an input: PNG for a still, NIfTI for NIfTI, DICOM-SEG for DICOM.

    Args:
        mask: 0 and 1 in the geometry of the source: H×W, or X×Y×Z in the order of the axes of the file
            (of a series: columns×rows×slices along their normal, as `Placement.shape`).
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
    return _write(np.asarray(mask, np.uint8), image, target, "mask", by, overwrite)


def write_probabilities(
    probabilities: NDArray[Any], image: InputImage, target: Path, by: ModelLabel, overwrite: bool = False
) -> Written:
    """Write the probabilities (0 to 1) of an input: PNG of 16 bits for a still, NIfTI of float32 for volumes.

    Arguments and errors are those of `write_mask`.
    """
    return _write(np.asarray(probabilities, np.float32), image, target, "probability", by, overwrite)


def _write(
    values: Pixels, image: InputImage, target: Path, content: Content, by: ModelLabel, overwrite: bool
) -> Written:
    if image.kind in ("still", "dicom-still"):
        _require_axes(values, 2)
        path = name_file(target, ".png", overwrite)
        write_png(path, values, content, by)
        is_turned = image.kind == "still" and read_orientation(image.files[0]) != 1
        return Written(path, (UPRIGHT,) if is_turned else ())
    path = name_file(target, ".nii.gz", overwrite)
    if image.kind == "nifti":
        header = read_volume_header(image.files[0])
        shape = tuple(header.get_data_shape()[:3])
    else:
        series = arrange_series(image.files[0].parent, files=image.files)
        header, shape = header_of(series.affine), series.shape
    _require_shape(values, shape)
    write_nifti(path, values, header, content, by)
    return Written(path)


def _require_axes(values: Pixels, axes: int) -> None:
    if values.ndim != axes:
        raise ValueError(f"the mask has {values.ndim} axes, expected {axes}")


def _require_shape(values: Pixels, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"the mask is {values.shape}, its image {shape}")
