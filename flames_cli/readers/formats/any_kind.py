"""Read an image and its masks in any format that FLAMES reads, by the file's name."""

from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from flames_cli.core.imaging.intensity import MAX_12_BIT, percentile_range
from flames_cli.core.imaging.labels import Flags
from flames_cli.readers.base import BadCase, RawCase, ReadOptions, SkippedCase, Source, VolumeRules
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_files import is_segmentation
from flames_cli.readers.formats.dicom_seg import read_segmentation
from flames_cli.readers.formats.images import read_deep_image
from flames_cli.readers.formats.masks import MaskRule, mark_tumour, read_masks, user_rule
from flames_cli.readers.formats.nifti import read_volume
from flames_cli.readers.formats.volumes import (
    Volume,
    read_slices,
    require_same_grid,
    stored_as,
)

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def read_any(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the case of a still image, or those of a volume: the slices with tumour, or as `options` select.

    Raises:
        BadCase: image or masks cannot be trusted, or do not belong together.
        SkippedCase: the masks are empty.
    """
    if _kind(source.image) == "still":
        return [_read_still(source, options)]
    image = _read_volume(source.image)
    rule = user_rule(source, options)
    marked = [_read_marked(source, path, image, rule) for path in source.masks]
    tumour = reduce(np.logical_or, (flags for flags, _ in marked))
    labels = frozenset(label for _, found in marked for label in found)
    cases = read_slices(source, image, tumour, options, VolumeRules(source.modality))
    return [replace(case, labels=labels) for case in cases]


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
    for path in source.masks:
        if _kind(path) != "still":
            raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    mask, labels = read_masks(source.masks, image.shape[:2], user_rule(source, options))
    if not mask.any():
        raise SkippedCase("the mask is empty")
    name = source.case or source.patient
    case = RawCase(case=name, patient=source.patient, image=image, mask=mask, labels=labels)
    if image.dtype == np.uint8:
        return case
    try:
        low, high = options.windows.get(source.modality) or percentile_range(image, options.percentile)
    except ValueError as error:
        raise BadCase(f"{source.name}: {error}") from error
    return replace(case, low=low, high=high, max_value=MAX_12_BIT)


def _read_volume(path: Path) -> Volume:
    return read_volume(path) if _kind(path) == "nifti" else read_series(path)


def _read_marked(source: Source, path: Path, image: Volume, rule: MaskRule) -> tuple[Flags, frozenset[str]]:
    """Return where the mask is tumour, in its own memory order (another order is much slower), and the rule's
    labels that it contains."""
    if _kind(path) == "still":
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if _kind(path) == "dicom" and is_segmentation(path):
        mask = read_segmentation(path, image)
        require_same_grid(source, image, mask)
        return np.asarray(mask.voxels > 0), frozenset(rule.labels)
    stored = read_volume(path, None) if _kind(path) == "nifti" else read_series(path, labels=True)
    mask = stored_as(stored, image.axes)
    require_same_grid(source, image, mask)
    return mark_tumour(path, mask.voxels, rule)
