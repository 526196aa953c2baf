"""DICOM files as a scanner and a segmentation tool write them, for phantoms and tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from flames_cli.arrays import Mask, Pixels

CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
ENHANCED = {"CT": EnhancedCTImageStorage, "MR": EnhancedMRImageStorage}
DAY, TIME = "20200101", "120000"
"""Date and time in all files, so that the same phantom gives the same bytes."""


def write_series(
    folder: Path, voxels: Pixels, affine: NDArray[np.float64], modality: str, patient: str, intercept: int = 0
) -> list[Dataset]:
    """Write one file per slice, `IM0001.dcm` and so on, and return its data sets.

    Args:
        folder: created if it does not exist.
        voxels: columns×rows×slices of integers; `intercept` is subtracted before they are stored as
            16 bits, unsigned.
        affine: voxel to mm (RAS), 4×4.
        modality: CT or MR, as DICOM calls it.
        patient: pseudonym of the patient.
        intercept: number that a reader must add.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(voxels.shape[2]):
        dataset = _describe(folder, affine, modality, patient, index)
        _set_pixels(dataset, voxels[:, :, index].T, intercept)
        dataset.save_as(folder / f"IM{index + 1:04d}.dcm", enforce_file_format=True)
        written.append(dataset)
    return written


def _describe(folder: Path, affine: NDArray[np.float64], modality: str, patient: str, index: int) -> Dataset:
    scope = [patient, folder.name]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CLASSES[modality]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*scope, str(index)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=scope)
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "frame"])
    dataset.PatientID, dataset.PatientName = patient, "Phantom^"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = DAY, TIME, "1"
    dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = dataset.Manufacturer = ""
    dataset.Modality = modality
    dataset.SeriesNumber, dataset.InstanceNumber = 1, index + 1
    _place(dataset, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, index)
    return dataset


def _place(dataset: Dataset, affine: NDArray[np.float64], index: int) -> None:
    """Set the position of slice `index`; `affine` is in DICOM's own axes, LPS."""
    columns_mm, rows_mm, slices_mm = np.linalg.norm(affine[:3, :3], axis=0)
    dataset.ImagePositionPatient = _texts(affine[:3, 3] + index * affine[:3, 2])
    dataset.ImageOrientationPatient = _texts([*affine[:3, 0] / columns_mm, *affine[:3, 1] / rows_mm])
    dataset.PixelSpacing = _texts([rows_mm, columns_mm])
    dataset.SliceThickness = _texts([slices_mm])[0]


def _texts(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Return numbers as DICOM stores them, with at most 16 characters each."""
    return [f"{value:.9g}" for value in values]


def _set_pixels(dataset: Dataset, pixels: Pixels, intercept: int) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, intercept
    dataset.PixelData = (pixels.astype(np.int32) - intercept).astype("<u2").tobytes()


def write_enhanced(folder: Path, path: Path) -> Path:
    """Write the slices of a series as the frames of one file, in the order of their names; return `path`."""
    slices = [dcmread(one) for one in sorted(folder.iterdir())]
    dataset = slices[0]
    dataset.SOPClassUID = ENHANCED[dataset.Modality]
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = DicomSequence([part(slices[0], "ImageOrientationPatient")])
    shared.PixelMeasuresSequence = DicomSequence([part(slices[0], "PixelSpacing", "SliceThickness")])
    shared.PixelValueTransformationSequence = DicomSequence(
        [part(slices[0], "RescaleSlope", "RescaleIntercept")]
    )
    for one in slices:
        frame = Dataset()
        frame.PlanePositionSequence = DicomSequence([part(one, "ImagePositionPatient")])
        frames.append(frame)
    dataset.PixelData = b"".join(one.PixelData for one in slices)
    dataset.NumberOfFrames = len(slices)
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept"):
        del dataset[keyword]
    dataset.save_as(path)
    return path


def part(dataset: Dataset, *keywords: str) -> Dataset:
    """Return a data set with some elements of another."""
    item = Dataset()
    for keyword in keywords:
        item[keyword] = dataset[keyword]
    return item


def write_segmentation(path: Path, images: Sequence[Dataset], mask: Mask) -> None:
    """Write a DICOM-SEG with one binary segment; as usual, slices without tumour are left out.

    Args:
        path: file to write.
        images: the series, one data set per slice of `mask`.
        mask: columns×rows×slices of 0 and 1.
    """
    # highdicom takes half a second to load.
    from highdicom.seg import (
        SegmentAlgorithmTypeValues,
        Segmentation,
        SegmentationTypeValues,
        SegmentDescription,
    )
    from pydicom.sr.codedict import codes

    uids = [generate_uid(entropy_srcs=[images[0].SeriesInstanceUID, part]) for part in ("series", "file")]
    tumour = SegmentDescription(
        segment_number=1,
        segment_label="tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
    )
    segmentation = Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(mask.transpose(2, 1, 0)),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[tumour],
        series_instance_uid=uids[0],
        series_number=2,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer="FLAMES",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
    )
    _fix_times(segmentation, uids[1])
    segmentation.save_as(path)


def _fix_times(segmentation: Dataset, uid: str) -> None:
    """Replace the values that differ between two runs."""
    segmentation.InstanceCreationDate = segmentation.ContentDate = DAY
    segmentation.InstanceCreationTime = segmentation.ContentTime = TIME
    segmentation.pop("ContributingEquipmentSequence", None)
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = f"{uid[:60]}.1"
