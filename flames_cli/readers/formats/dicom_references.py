"""Compare what DICOM files say about themselves: an image with its row, and a mask with its image.

The identifiers are compared and never quoted: some of them name a patient.
"""

from collections.abc import Iterator
from pathlib import Path

from pydicom.dataset import Dataset

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats import ranges
from flames_cli.readers.formats.dicom_files import SEGMENTATIONS, list_files, named_errors, read_header

MODALITIES = {"CT": "CT", "MR": "MRI", "US": "US", "PT": "PET", "MG": "mammography"}
"""Modalities of DICOM files, and their names here."""

CHECKED = ("CT", "MRI", "US")
"""Modalities of rows that a file of another of MODALITIES contradicts."""

OTHER_SERIES = "the mask was drawn on another series of the study with the same frame of reference"


def require_modality(image: Path, modality: str) -> None:
    """Check that a DICOM image is not of another modality than its row says, such as MRI listed as CT.

    Modalities of the user's own, and files of other modalities, decide nothing.

    Raises:
        BadCase: the modality is another; the intensities would be scaled by its rule.
    """
    stated = MODALITIES.get(str(read_header(list_files(image)[0]).get("Modality")))
    listed = ranges.family_of(modality)
    if stated and listed in CHECKED and stated != listed:
        raise BadCase(
            f"{image.name}: the file is {stated}, its row says {modality}; expected one; correct the "
            "column modality"
        )


def require_same_origin(image: Path, mask: Path) -> tuple[str, ...]:
    """Check that a DICOM mask is of the patient and the space of its DICOM image; return remarks.

    Series that a segmentation refers to decide first. A segmentation of another series of the same study is
    right if both have one frame of reference: it was drawn on another sequence of one examination.
    Identifiers that one of the files does not have decide nothing.

    Args:
        image: a series (the first file stands for all), or one file.
        mask: a segmentation, a series or one file.

    Raises:
        BadCase: patient, frame of reference, study, series or image differ.
    """
    image_files = list_files(image)
    own, other = read_header(image_files[0]), read_header(list_files(mask)[0])
    with named_errors(mask):
        if _differ(own, other, "PatientID"):
            raise _another(mask, "patient (PatientID)")
        if _differ(own, other, "FrameOfReferenceUID"):
            raise _another(mask, "frame of reference (FrameOfReferenceUID)")
        series = _referenced_series(other)
        study = series.get(_text(own, "SeriesInstanceUID"), _text(other, "StudyInstanceUID"))
        if study and _text(own, "StudyInstanceUID") not in ("", study):
            raise _another(mask, "study (StudyInstanceUID)")
        if series and _text(own, "SeriesInstanceUID") not in series:
            if not (_text(own, "FrameOfReferenceUID") and _text(other, "FrameOfReferenceUID")):
                raise _another(mask, "series (ReferencedSeriesSequence)")
            return (OTHER_SERIES,)
        is_segmentation = other.get("SOPClassUID") in SEGMENTATIONS
        images = _referenced_images(other) if is_segmentation and not series else set()
        if images and not any(_text(read_header(file), "SOPInstanceUID") in images for file in image_files):
            raise _another(mask, "image (ReferencedSOPInstanceUID)")
    return ()


def require_same_image(image: Path, mask: Path) -> tuple[str, ...]:
    """Check that a DICOM mask is of the image in one DICOM file, not only of its series; return remarks.

    Raises:
        BadCase: see `require_same_origin`; or a segmentation refers to other images.
    """
    remarks = require_same_origin(image, mask)
    own, other = read_header(list_files(image)[0]), read_header(list_files(mask)[0])
    with named_errors(mask):
        images = _referenced_images(other) if other.get("SOPClassUID") in SEGMENTATIONS else set()
        if images and _text(own, "SOPInstanceUID") not in images:
            raise _another(mask, "image (ReferencedSOPInstanceUID)")
    return remarks


def _another(mask: Path, what: str) -> BadCase:
    return BadCase(
        f"{mask.name}: the mask is of another {what} than its image; expected the mask of this image; "
        "correct the row, or draw the mask on this image"
    )


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _differ(own: Dataset, other: Dataset, keyword: str) -> bool:
    """Return True if both files have the element and its values differ in more than upper and lower case."""
    values = [_text(header, keyword).casefold() for header in (own, other)]
    return all(values) and values[0] != values[1]


def _referenced_series(header: Dataset) -> dict[str, str]:
    """Return the series that a segmentation refers to, each with its study (PS3.3, C.12.2).

    Other files refer to series for other reasons.
    """
    if header.get("SOPClassUID") not in SEGMENTATIONS:
        return {}
    studies = [*(header.get("StudiesContainingOtherReferencedInstancesSequence") or []), header]
    found = {
        _text(item, "SeriesInstanceUID"): _text(study, "StudyInstanceUID")
        for study in studies
        for item in study.get("ReferencedSeriesSequence") or []
    }
    return {series: study for series, study in found.items() if series}


def _referenced_images(header: Dataset) -> set[str]:
    """Return the images that a segmentation refers to, in all its sequences."""
    return {_text(item, "ReferencedSOPInstanceUID") for item in _items(header)} - {""}


def _items(header: Dataset) -> Iterator[Dataset]:
    yield header
    for element in header:
        if element.VR == "SQ":
            for item in element.value:
                yield from _items(item)
