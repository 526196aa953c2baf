"""Write masks as DICOM-SEG (PS3.3, A.51) that refers to the instances of its image, by highdicom."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from threading import Lock

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import DA, TM, format_number_as_ds

from flames_cli.arrays import Mask
from flames_cli.readers.formats.dicom import Series
from flames_cli.readers.formats.dicom_files import named_errors
from flames_cli.store.files.atomic import replacing
from flames_cli.writers.label import ModelLabel

SERIES_NUMBER = 1000
"""Number of the series of a mask, above those of a scanner."""
LONGEST = 64
"""Largest number of characters of a text (LO, PS3.5)."""
REQUIRED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Elements that a file must have, even if they are empty (type 2); anonymisation may have removed them."""

_FILTERS = Lock()
"""Lock of the filters of warnings, which all threads share."""


class NotReferable(Exception):
    """An image to which no DICOM-SEG can refer; the message is the reason."""


def is_available() -> bool:
    """Return whether highdicom is installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        return False
    return True


def write_series_mask(path: Path, mask: Mask, series: Series, by: ModelLabel) -> None:
    """Write the mask of a series: columns×rows×slices of 0 and 1, slices along their normal.

    Slices without tumour are left out, unless all are.

    Raises:
        NotReferable: highdicom cannot refer to this series.
        NotWritten: the folder cannot be written or the disk is full.
    """
    sources = [_read(one) for one in dict.fromkeys(plane.path for plane in series.planes)]
    frames = mask.transpose(2, 1, 0)
    if len(sources) == len(series.planes):
        distance_mm = float(np.linalg.norm(series.affine[:3, 2]))
        for source in sources:
            if not source.get("SliceThickness"):  # highdicom needs it
                source.SliceThickness = format_number_as_ds(distance_mm)
        made = _segment(frames, sources, by)
        if len(sources) == 1:  # highdicom states 1 mm
            for measures in made.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence") or []:
                measures.pop("SpacingBetweenSlices", None)
        _save(path, made)
        return
    if len(sources) > 1:
        raise NotReferable("its slices are in several files of several frames")
    own_class = str(sources[0].get("SOPClassUID"))
    sources[0].SOPClassUID = EnhancedMRImageStorage  # highdicom decides by the class whether it has frames
    made = _segment(frames[np.argsort([plane.frame for plane in series.planes])], sources, by)
    _restore_class(made, own_class)
    _save(path, made)


def write_still_mask(path: Path, mask: Mask, file: Path, frame: int, by: ModelLabel) -> None:
    """Write the mask of a still, rows×columns of 0 and 1; arguments and errors are as above.

    Args:
        path: file to write.
        mask: the mask.
        file: the image.
        frame: number of the frame of a clip, from 1; 0: it has one image.
        by: the model.
    """
    source = _read(file)
    own_class = str(source.get("SOPClassUID"))
    # highdicom takes no frame of a clip without position; a capture of a screen is one image.
    source.SOPClassUID = SecondaryCaptureImageStorage
    source.pop("NumberOfFrames", None)
    made = _segment(mask[None], [source], by, frame)
    _restore_class(made, own_class)
    made.PatientOrientation = source.get("PatientOrientation")
    if frame:
        _name_frame(made, frame)
    _save(path, made)


def _read(path: Path) -> Dataset:
    """Return all elements of a source but its pixels; elements that must exist are there, empty if needed."""
    with _without_warnings(), named_errors(path):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for name in REQUIRED:
            if name not in dataset or not _is_valid(name, dataset[name].value):
                setattr(dataset, name, "")
        if "SpecificCharacterSet" in dataset:  # highdicom does not know all of them
            dataset.decode()
            dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _is_valid(name: str, value: object) -> bool:
    """Return whether highdicom accepts a value; others are left out, not guessed."""
    if name == "PatientSex":
        return value in ("M", "F", "O")
    try:
        if name.endswith("Date"):
            DA(str(value))
        elif name.endswith("Time"):
            TM(str(value))
    except ValueError:
        return False
    return True


def _save(path: Path, made: Dataset) -> None:
    with _without_warnings(), replacing(path) as temporary:
        made.save_as(temporary)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence highdicom and pydicom, whose warnings quote values of files; one thread at a time does so."""
    logging.getLogger("highdicom").setLevel(logging.ERROR)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _segment(frames: Mask, sources: Sequence[Dataset], by: ModelLabel, frame: int = 0) -> Dataset:
    """Return the segmentation of frames×rows×columns, one frame for each source or frame of the only source.

    Raises:
        NotReferable: highdicom cannot refer to the sources.
    """
    with _without_warnings():
        try:
            return _make(np.ascontiguousarray(frames) != 0, sources, by, frame)
        except Exception as error:
            raise NotReferable(f"highdicom raised {type(error).__name__}") from error


def _make(frames: NDArray[np.bool_], sources: Sequence[Dataset], by: ModelLabel, frame: int) -> Dataset:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import (
        SegmentAlgorithmTypeValues,
        Segmentation,
        SegmentationTypeValues,
        SegmentDescription,
    )

    name = f"FLAMES model {by.name}"[:LONGEST].encode("ascii", "replace").decode()
    tumour = SegmentDescription(
        segment_number=1,
        segment_label="tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=name, version=by.version, family=codes.DCM.ArtificialIntelligence
        ),
    )
    digest = hashlib.sha256(np.packbits(frames).tobytes()).hexdigest()
    scope = [str(sources[0].SOPInstanceUID), str(frame), by.name, by.version]
    made = Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[tumour],
        series_instance_uid=generate_uid(entropy_srcs=[*scope, "series"]),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(entropy_srcs=[*scope, digest]),
        instance_number=max(frame, 1),
        manufacturer="FLAMES",
        manufacturer_model_name="flames-cli",
        software_versions=by.version,
        device_serial_number="0",
        content_label="TUMOUR",
        content_description=by.describe("mask").encode("ascii", "replace").decode()[:LONGEST],
        omit_empty_frames=bool(frames.any()),
    )
    made.SeriesDescription = made.ContentDescription
    if charset := sources[0].get("SpecificCharacterSet"):  # earlier releases of highdicom set another
        made.SpecificCharacterSet = charset
    return made


def _restore_class(made: Dataset, own_class: str) -> None:
    """Set the class of the source in all references to it."""
    for element in made.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            element.value = own_class


def _name_frame(made: Dataset, frame: int) -> None:
    """Set the number of the frame of a clip where a reference is to the image, not to its series."""
    if "SourceImageSequence" in made:  # its items are those of the reference to the series
        made.SourceImageSequence = deepcopy(made.SourceImageSequence)
    for holder in (made, *made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence):
        for reference in holder.get("SourceImageSequence") or []:
            reference.ReferencedFrameNumber = frame
