"""Read an image and its masks in any format that FLAMES reads, by the file's name; above 0 is tumour."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flames_cli.arrays import Mask
from flames_cli.core.imaging.intensity import MAX_12_BIT
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
from flames_cli.readers.formats import dicom_stills
from flames_cli.readers.formats.content import Kind, recognise_file
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_files import is_dicom, is_segmentation, named_errors
from flames_cli.readers.formats.dicom_references import (
    require_modality,
    require_same_image,
    require_same_origin,
)
from flames_cli.readers.formats.dicom_seg import NONE_CHOSEN, read_segmentation
from flames_cli.readers.formats.images import read_deep_image
from flames_cli.readers.formats.masks import read_masks, require_shape
from flames_cli.readers.formats.nifti import read_volume
from flames_cli.readers.formats.ranges import choose_range
from flames_cli.readers.formats.volumes import (
    Flags,
    Volume,
    read_slices,
    require_same_grid,
    stored_as,
)

JPEG_SUFFIXES = (".jpg", ".jpeg")
STILL_SUFFIXES = (".png", *JPEG_SUFFIXES, ".tif", ".tiff", ".bmp")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def read_any(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the case of a still image, or those of a volume: the slices with tumour, or as `options` select.

    Raises:
        BadCase: image or masks cannot be trusted, or do not belong together.
        SkippedCase: there is no lesion, and such images are not kept.
    """
    if source.is_healthy and not options.keep_empty:
        raise SkippedCase(NO_LESION)
    kind = _kind(source.image)
    if kind == "dicom":
        require_modality(source.image, source.modality)
    if kind == "still" or (kind == "dicom" and dicom_stills.is_still(source.image, source.frame)):
        return [_read_still(source, options)]
    if source.frame:
        raise BadCase(
            f"{source.name}: frame {source.frame} of a volume, expected a clip; leave the cell of the column "
            "frame empty"
        )
    image = _read_volume(source.image)
    tumour, notes = _read_tumour(source, image, options)
    cases = read_slices(source, image, tumour, options, VolumeRules(source.modality))
    return [replace(case, notes=(*case.notes, *notes)) for case in cases]


def _read_tumour(source: Source, image: Volume, options: ReadOptions) -> tuple[Flags, tuple[str, ...]]:
    """Return the union of the masks of a volume, and the remarks about image and masks."""
    if not source.masks:
        return np.zeros_like(image.voxels, bool), image.notes
    tumour, notes = np.zeros((), bool), list(image.notes)
    for path in source.masks:
        mask = _read_volume_mask(source, path, image, options)
        require_same_grid(source, image, mask)
        # An array in another memory order would be much slower, so the first mask is not copied.
        tumour = np.asarray(mask.voxels > 0) if not tumour.ndim else tumour | (mask.voxels > 0)
        notes += mask.notes
    _require_choice(tumour, notes, options)
    return tumour, tuple(dict.fromkeys(notes))


def _require_choice(tumour: NDArray[Any], notes: Sequence[str], options: ReadOptions) -> None:
    """Raise SkippedCase with its own reason where no segment was chosen, unless empty images are kept."""
    if NONE_CHOSEN in notes and not options.keep_empty and not tumour.any():
        raise SkippedCase(NONE_CHOSEN)


def _kind(path: Path) -> Kind:
    """Return the kind that the name states, or the content of a file whose name states none."""
    name = path.name.lower()
    if name.endswith(STILL_SUFFIXES):
        return "still"
    if name.endswith(NIFTI_SUFFIXES):
        return "nifti"
    if name.endswith(".dcm") or path.is_dir():
        return "dicom"
    if not path.exists():
        raise BadCase(f"{path.name}: there is no such file or folder")
    content = recognise_file(path)
    if content.kind:
        return content.kind
    with named_errors(path):
        if path.is_file() and is_dicom(path):
            return "dicom"
    found = f"its content is {content.name}, " if content.name else ""
    raise BadCase(
        f"{path.name}: {found}expected PNG, JPEG, TIFF, BMP, NIfTI, .dcm, or a folder of DICOM files; "
        f"{content.advice}"
    )


def _read_still(source: Source, options: ReadOptions) -> RawCase:
    """Read a still. 8-bit values are unchanged; 16-bit ones are scaled by window or percentile."""
    still = _read_still_image(source, options.colour)
    image = still.pixels
    mask = np.zeros(image.shape[:2], np.uint8)
    notes: list[str] = []
    for path in source.masks:
        one, remarks = _read_still_mask(source, path, mask.shape, options)
        mask |= one
        notes += remarks
    _require_choice(mask, notes, options)
    if not mask.any() and not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    case = RawCase(
        case=source.case or source.patient,
        patient=source.patient,
        image=image,
        mask=mask,
        spacing_mm=still.spacing_mm,
        notes=tuple(dict.fromkeys(notes)),
    )
    if image.dtype == np.uint8:
        return case
    low, high = choose_range(source.name, image, VolumeRules(source.modality), options)
    return replace(case, low=low, high=high, max_value=MAX_12_BIT)


def _read_still_image(source: Source, colour: bool) -> dicom_stills.Still:
    if _kind(source.image) == "dicom":
        return dicom_stills.read_still(source.image, colour, source.frame)
    if source.frame:
        raise BadCase(
            f"{source.name}: frame {source.frame} of a single image, expected a DICOM clip; leave the cell "
            "of the column frame empty"
        )
    return dicom_stills.Still(read_deep_image(source.image, colour))


def _read_still_mask(
    source: Source, path: Path, shape: tuple[int, ...], options: ReadOptions
) -> tuple[Mask, Sequence[str]]:
    """Return a mask and the remarks about it."""
    if _kind(path) == "dicom":
        return _read_dicom_still_mask(source, path, shape, options)
    if _kind(path) != "still":
        raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    if path.name.lower().endswith(JPEG_SUFFIXES):
        return read_masks([path], shape, allowed=None), ()
    labels = read_deep_image(path)
    require_shape(path, labels, shape)
    return (labels > 0).astype(np.uint8), ()


def _read_dicom_still_mask(
    source: Source, path: Path, shape: tuple[int, ...], options: ReadOptions
) -> tuple[Mask, Sequence[str]]:
    is_dicom_image = _kind(source.image) == "dicom"
    remarks = require_same_image(source.image, path) if is_dicom_image else ()
    if is_dicom_image and is_segmentation(path):
        mask, own = dicom_stills.read_still_segmentation(
            path, source.image, source.frame, source.labels or options.labels
        )
        require_shape(path, mask, shape)
        return mask, (*own, *remarks)
    if not dicom_stills.is_still(path):
        raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    labels = dicom_stills.read_still_values(path, source.image, source.frame)
    if labels.ndim == 3:
        labels = labels.max(axis=2)
    require_shape(path, labels, shape)
    return (labels > 0).astype(np.uint8), remarks


def _read_volume(path: Path) -> Volume:
    return read_volume(path) if _kind(path) == "nifti" else read_series(path)


def _read_volume_mask(source: Source, path: Path, image: Volume, options: ReadOptions) -> Volume:
    kind = _kind(path)
    if kind == "still":
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if kind == "nifti":
        return stored_as(read_volume(path), image.axes)
    remarks = require_same_origin(source.image, path) if _kind(source.image) == "dicom" else ()
    if dicom_stills.is_still(path):
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if is_segmentation(path):
        mask = read_segmentation(path, image, source.labels or options.labels)
    else:
        mask = stored_as(read_series(path, labels=True), image.axes)
    return replace(mask, notes=(*mask.notes, *remarks))
