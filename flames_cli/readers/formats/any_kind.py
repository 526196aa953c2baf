"""Read an image and its masks in any format that FLAMES reads, by the file's name; above 0 is tumour."""

from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from flames_cli.arrays import Mask
from flames_cli.core.imaging.intensity import MAX_12_BIT, percentile_range
from flames_cli.readers.base import (
    EMPTY_MASK,
    NO_LESION,
    BadCase,
    RawCase,
    ReadOptions,
    SkippedCase,
    Source,
    VolumeRules,
)
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_files import is_segmentation
from flames_cli.readers.formats.dicom_seg import read_segmentation
from flames_cli.readers.formats.images import read_deep_image
from flames_cli.readers.formats.masks import read_masks, require_shape
from flames_cli.readers.formats.nifti import read_volume
from flames_cli.readers.formats.volumes import (
    Flags,
    Volume,
    read_slices,
    require_same_grid,
    stored_as,
)

JPEG_SUFFIXES = (".jpg", ".jpeg")
STILL_SUFFIXES = (".png", *JPEG_SUFFIXES, ".tif", ".tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def read_any(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the case of a still image, or those of a volume: the slices with tumour, or as `options` select.

    Raises:
        BadCase: image or masks cannot be trusted, or do not belong together.
        SkippedCase: there is no lesion, and such images are not kept.
    """
    if source.is_healthy and not options.keep_empty:
        raise SkippedCase(NO_LESION)
    if _kind(source.image) == "still":
        return [_read_still(source, options)]
    image = _read_volume(source.image)
    marked = [_read_marked(source, path, image) for path in source.masks]
    tumour = reduce(np.logical_or, marked) if marked else np.zeros_like(image.voxels, bool)
    return read_slices(source, image, tumour, options, VolumeRules(source.modality))


def _kind(path: Path) -> str:
    """Return `still`, `nifti` or `dicom`."""
    name = path.name.lower()
    if name.endswith(STILL_SUFFIXES):
        return "still"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(".dcm") or path.is_dir():
        return "dicom"
    if not path.exists():
        raise BadCase(f"{path.name}: there is no such file or folder")
    raise BadCase(f"{path.name}: expected PNG, JPEG, TIFF, NIfTI, .dcm, or a folder of DICOM files")


def _read_still(source: Source, options: ReadOptions) -> RawCase:
    """Read a still. 8-bit values are unchanged; 16-bit ones are scaled by window or percentile."""
    image = read_deep_image(source.image, options.colour)
    mask = np.zeros(image.shape[:2], np.uint8)
    for path in source.masks:
        mask |= _read_still_mask(path, mask.shape)
    if not mask.any() and not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    case = RawCase(case=source.case or source.patient, patient=source.patient, image=image, mask=mask)
    if image.dtype == np.uint8:
        return case
    try:
        low, high = options.windows.get(source.modality) or percentile_range(image, options.percentile)
    except ValueError as error:
        raise BadCase(f"{source.name}: {error}") from error
    return replace(case, low=low, high=high, max_value=MAX_12_BIT)


def _read_still_mask(path: Path, shape: tuple[int, ...]) -> Mask:
    if _kind(path) != "still":
        raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    if path.name.lower().endswith(JPEG_SUFFIXES):
        return read_masks([path], shape, allowed=None)
    labels = read_deep_image(path)
    require_shape(path, labels, shape)
    return (labels > 0).astype(np.uint8)


def _read_volume(path: Path) -> Volume:
    return read_volume(path) if _kind(path) == "nifti" else read_series(path)


def _read_marked(source: Source, path: Path, image: Volume) -> Flags:
    """Return True where the mask is tumour, in the mask's own memory order: another order is much slower."""
    mask = _read_volume_mask(path, image)
    require_same_grid(source, image, mask)
    return np.asarray(mask.voxels > 0)


def _read_volume_mask(path: Path, image: Volume) -> Volume:
    kind = _kind(path)
    if kind == "still":
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if kind == "nifti":
        return stored_as(read_volume(path), image.axes)
    if is_segmentation(path):
        return read_segmentation(path, image)
    return stored_as(read_series(path, labels=True), image.axes)
