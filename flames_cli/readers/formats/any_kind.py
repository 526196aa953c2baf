"""Read an image and its masks in any format that FLAMES reads, by the file's name."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from flames_cli.core.imaging.intensity import MAX_12_BIT
from flames_cli.core.imaging.labels import Flags
from flames_cli.readers.base import (
    EMPTY_MASK,
    NO_LESION,
    NONE_CHOSEN,
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
from flames_cli.readers.formats.dicom_seg import read_segmentation
from flames_cli.readers.formats.exif import compare_orientations, explained_shapes
from flames_cli.readers.formats.images import StoredImage, read_deep_image
from flames_cli.readers.formats.masks import (
    Marked,
    MaskRule,
    join,
    mark_still,
    mark_tumour,
    read_mask,
    require_shape,
    user_rule,
)
from flames_cli.readers.formats.nifti import read_volume
from flames_cli.readers.formats.ranges import choose_range
from flames_cli.readers.formats.volumes import (
    Volume,
    read_slices,
    require_same_grid,
    stored_as,
)

TIFF_SUFFIXES = (".tif", ".tiff")
STILL_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".bmp")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


def read_any(source: Source, options: ReadOptions) -> list[RawCase]:
    """Return the case of a still image, or those of a volume: the slices with tumour, or as `options` select.

    Raises:
        BadCase: image or masks cannot be trusted, or do not belong together.
        SkippedCase: there is no lesion, and such images are not kept.
    """
    if source.is_healthy and not options.keep_empty:
        raise SkippedCase(NO_LESION)
    kind = kind_of(source.image)
    if kind == "dicom":
        require_modality(source.image, source.modality)
    if kind == "still" or (kind == "dicom" and dicom_stills.is_still(source.image, source.frame)):
        return [_read_still(source, options)]
    if source.frame:
        raise BadCase(
            f"{source.name}: frame {source.frame} of a volume, expected a clip; leave the cell of the column "
            "frame empty"
        )
    image = _read_image_volume(source)
    rule = user_rule(source, options)
    masks = [_mark_volume(source, path, image, rule) for path in source.masks]
    marked = join(masks) if masks else Marked(np.zeros_like(image.voxels, bool))
    notes = tuple(dict.fromkeys((*image.notes, *marked.notes)))
    _require_choice(marked, options)
    cases = read_slices(source, image, marked.tumour, options, VolumeRules(source.modality))
    return [replace(case, labels=marked.labels, notes=(*case.notes, *notes)) for case in cases]


def _require_choice(marked: Marked, options: ReadOptions) -> None:
    """Raise SkippedCase with its own reason if no mask has a chosen label, unless empty images are kept."""
    if NONE_CHOSEN in marked.notes and not options.keep_empty and not marked.tumour.any():
        raise SkippedCase(NONE_CHOSEN)


def kind_of(path: Path) -> Kind:
    """Return the kind that the name states, or the content of a file whose name states none.

    Raises:
        BadCase: there is no such file, or no reader for it.
    """
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
    image, rule = still.pixels, user_rule(source, options)
    shape = image.shape[:2]
    with explained_shapes(source.image, source.masks):
        masks = [_mark_still(source, path, shape, rule) for path in source.masks]
    marked = join(masks) if masks else Marked(np.zeros(shape, bool))
    _require_choice(marked, options)
    if not marked.tumour.any() and not options.keep_empty:
        raise SkippedCase(EMPTY_MASK)
    case = RawCase(
        case=source.case or source.patient,
        patient=source.patient,
        image=image,
        mask=marked.tumour.view(np.uint8),
        spacing_mm=still.spacing_mm,
        labels=marked.labels,
        notes=(*marked.notes, *compare_orientations(source.image, source.masks)),
    )
    if image.dtype == np.uint8:
        return case
    low, high = choose_range(source.name, image, VolumeRules(source.modality), options)
    return replace(case, low=low, high=high, max_value=MAX_12_BIT)


def _read_still_image(source: Source, colour: bool) -> dicom_stills.Still:
    if kind_of(source.image) == "dicom":
        return dicom_stills.read_still(source.image, colour, source.frame)
    if source.frame and not source.image.name.lower().endswith(TIFF_SUFFIXES):
        raise BadCase(
            f"{source.name}: frame {source.frame} of a single image, expected a DICOM clip or a TIFF of "
            "several pages; leave the cell of the column frame empty"
        )
    return dicom_stills.Still(read_deep_image(source.image, colour, source.frame))


def _mark_still(source: Source, path: Path, shape: tuple[int, ...], rule: MaskRule) -> Marked:
    """Return the tumour of one mask of a still."""
    kind = kind_of(path)
    if kind == "still":
        return read_mask(path, shape, rule)
    if kind != "dicom":
        raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    is_dicom_image = kind_of(source.image) == "dicom"
    remarks = tuple(require_same_image(source.image, path)) if is_dicom_image else ()
    if is_segmentation(path):
        image = source.image if is_dicom_image else None
        mask, found = dicom_stills.read_still_segmentation(path, image, source.frame, rule.labels)
        require_shape(path, mask, shape)
        return _mark_segments(mask.view(bool), rule, found, remarks)
    if not dicom_stills.is_still(path):
        raise BadCase(f"{path.name}: the mask is a volume, its image a still; expected both alike")
    values = dicom_stills.read_still_values(path, source.image, source.frame)
    require_shape(path, values, shape)
    marked = mark_still(path, StoredImage(values), rule)
    return replace(marked, notes=(*marked.notes, *remarks))


def _mark_segments(tumour: Flags, rule: MaskRule, found: frozenset[str], remarks: tuple[str, ...]) -> Marked:
    """Return the tumour of a segmentation, with a remark if it contains none of the rule's labels."""
    return Marked(tumour, found, (NONE_CHOSEN, *remarks) if rule.labels and not found else remarks)


def _read_image_volume(source: Source) -> Volume:
    if kind_of(source.image) == "nifti":
        return read_volume(source.image)
    folder = source.image.parent if len(source.files) > 1 else source.image
    return read_series(folder, files=source.files)


def _mark_volume(source: Source, path: Path, image: Volume, rule: MaskRule) -> Marked:
    """Return the tumour of one mask of a volume, in its own memory order: another order is much slower."""
    kind = kind_of(path)
    if kind == "still":
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if kind == "nifti":
        mask = stored_as(read_volume(path, None), image.axes)
        require_same_grid(source, image, mask)
        return mark_tumour(path, mask.voxels, rule)
    remarks = tuple(require_same_origin(source.image, path)) if kind_of(source.image) == "dicom" else ()
    if dicom_stills.is_still(path):
        raise BadCase(f"{path.name}: the mask is a still, its image a volume; expected both alike")
    if is_segmentation(path):
        mask, found = read_segmentation(path, image, rule.labels)
        require_same_grid(source, image, mask)
        return _mark_segments(mask.voxels > 0, rule, found, remarks)
    mask = stored_as(read_series(path, labels=True), image.axes)
    require_same_grid(source, image, mask)
    marked = mark_tumour(path, mask.voxels, rule)
    return replace(marked, notes=(*marked.notes, *mask.notes, *remarks))
