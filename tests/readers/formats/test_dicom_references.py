from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom_references import (
    OTHER_SERIES,
    require_modality,
    require_same_image,
    require_same_origin,
)
from tests.support.phantoms.dicom import write_segmentation, write_series
from tests.support.phantoms.dicom_bytes import CLASSES, image, sequence, write

SHAPE = (5, 4, 3)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
FIXED = {"FrameOfReferenceUID": "1.2.9", "StudyInstanceUID": "1.2.8", "PatientID": "SECRET-7"}


@pytest.fixture
def series(tmp_path) -> Path:
    write_series(tmp_path / "CT", np.zeros(SHAPE, np.int16), AFFINE, "CT", "p1", intercept=-1024)
    change(tmp_path / "CT", **FIXED, SeriesInstanceUID="1.2.7")
    return tmp_path / "CT"


@pytest.fixture
def segmentation(series) -> Path:
    slices = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    write_segmentation(series.parent / "seg.dcm", slices, np.ones(SHAPE, np.uint8))
    return series.parent / "seg.dcm"


def change(path: Path, **values: object) -> None:
    """Set elements of a file, or of all files in a folder; None takes an element out."""
    for file in [path] if path.is_file() else path.iterdir():
        dataset = pydicom.dcmread(file)
        for keyword, value in values.items():
            if value is None:
                dataset.pop(keyword, None)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(file)


def refer_to(path: Path, *series: str) -> None:
    items = []
    for uid in series:
        items.append(Dataset())
        items[-1].SeriesInstanceUID = uid
    change(path, ReferencedSeriesSequence=Sequence(items))


def lose_all_references(path: Path) -> None:
    """Take out all that names series or images, at the top and in every frame."""
    dataset = pydicom.dcmread(path)
    for keyword in ("ReferencedSeriesSequence", "SourceImageSequence"):
        dataset.pop(keyword, None)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.pop("DerivationImageSequence", None)
    dataset.save_as(path)


def test_the_segmentation_of_a_series_is_its_own(series, segmentation):
    assert require_same_origin(series, segmentation) == ()


def test_one_of_several_series_that_a_segmentation_refers_to_is_enough(series, segmentation):
    refer_to(segmentation, "1.2.5", "1.2.7")
    assert require_same_origin(series, segmentation) == ()


def test_a_series_of_another_study_may_be_referred_to(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.8", dataset.ReferencedSeriesSequence
    dataset.StudiesContainingOtherReferencedInstancesSequence = Sequence([study])
    del dataset.ReferencedSeriesSequence
    dataset.StudyInstanceUID = "1.2.6"
    dataset.save_as(segmentation)
    assert require_same_origin(series, segmentation) == ()


def test_the_right_series_in_the_wrong_study_is_a_contradiction(series, segmentation):
    change(segmentation, StudyInstanceUID="1.2.6")
    with pytest.raises(BadCase, match="of another study"):
        require_same_origin(series, segmentation)


@pytest.mark.parametrize("keyword", ["PatientID", "FrameOfReferenceUID"])
def test_another_patient_or_space_is_rejected_without_being_quoted(keyword, series, segmentation):
    change(segmentation, **{keyword: "1.2.66"})
    with pytest.raises(BadCase, match=rf"seg\.dcm: the mask is of another .*\({keyword}\)") as refused:
        require_same_origin(series, segmentation)
    assert "SECRET" not in str(refused.value)
    assert "1.2.66" not in str(refused.value)


def test_another_series_of_one_space_and_study_is_a_remark(series, segmentation):
    refer_to(segmentation, "1.2.5")
    assert require_same_origin(series, segmentation) == (OTHER_SERIES,)


def test_another_series_is_rejected_if_no_common_space_is_stated(series, segmentation):
    refer_to(segmentation, "1.2.5")
    change(segmentation, FrameOfReferenceUID=None)
    with pytest.raises(BadCase, match="of another series"):
        require_same_origin(series, segmentation)


def test_another_series_of_another_study_is_rejected_even_in_one_space(series, segmentation):
    refer_to(segmentation, "1.2.5")
    change(segmentation, StudyInstanceUID="1.2.6")
    with pytest.raises(BadCase, match="of another study"):
        require_same_origin(series, segmentation)


def test_without_series_the_images_decide(series, segmentation):
    change(segmentation, ReferencedSeriesSequence=None)
    assert require_same_origin(series, segmentation) == ()
    for number, path in enumerate(sorted(series.iterdir())):
        change(path, SOPInstanceUID=f"1.2.4.{number}")
    with pytest.raises(BadCase, match="of another image"):
        require_same_origin(series, segmentation)


def test_without_series_the_study_decides(series, segmentation):
    lose_all_references(segmentation)
    change(segmentation, StudyInstanceUID="1.2.6")
    with pytest.raises(BadCase, match="of another study"):
        require_same_origin(series, segmentation)


def test_a_segmentation_that_names_nothing_is_left_to_its_geometry(series, segmentation):
    lose_all_references(segmentation)
    change(segmentation, StudyInstanceUID=None, FrameOfReferenceUID=None, PatientID="")
    assert require_same_origin(series, segmentation) == ()


def test_letters_and_spaces_of_an_identifier_do_not_matter(series, segmentation):
    change(segmentation, PatientID=" secret-7 ")
    assert require_same_origin(series, segmentation) == ()


@pytest.mark.parametrize(("keyword", "value"), [("PatientID", "x"), ("FrameOfReferenceUID", "1.2.66")])
def test_a_series_as_a_mask_is_of_its_image_too(keyword, value, series):
    write_series(series.parent / "mask", np.ones(SHAPE, np.int16), AFFINE, "MR", "p1")
    change(series.parent / "mask", **FIXED)
    assert require_same_origin(series, series.parent / "mask") == ()
    change(series.parent / "mask", **{keyword: value})
    with pytest.raises(BadCase, match=f"of another .*{keyword}"):
        require_same_origin(series, series.parent / "mask")


def segmentation_of(path: Path, *images: str) -> Path:
    """A segmentation of one series that names single images."""
    items = [{(0x0008, 0x1155): ("UI", uid)} for uid in images]
    series = {(0x0008, 0x114A): sequence(*items), (0x0020, 0x000E): ("UI", "1.2.3.1")}
    elements = {**image("SEG", (4, 5), bytes(20)), (0x0008, 0x1115): sequence(series)}
    return write(path, elements)


def test_a_still_is_one_image_of_its_series(tmp_path):
    still = write(tmp_path / "a.dcm", image("US", (4, 5), bytes(20)))
    assert require_same_image(still, segmentation_of(tmp_path / "seg.dcm", "1.2.3.9", "1.2.3.4")) == ()
    assert require_same_image(still, segmentation_of(tmp_path / "seg.dcm")) == ()
    with pytest.raises(BadCase, match=r"of another image \(ReferencedSOPInstanceUID\)"):
        require_same_image(still, segmentation_of(tmp_path / "seg.dcm", "1.2.3.9"))


@pytest.mark.parametrize(
    ("kind", "modality", "is_right"),
    [
        *[("MR", "CT", False), ("CT", "MRI", False), ("US", "MRI", False), ("MR", "CT-CE", False)],
        ("MG", "US", False),
        *[
            ("CT", "CT", True),
            ("MR", "MRI", True),
            ("MR", "T2", True),
            ("MR", "PET-CT", True),
            ("CT", "ct_portal", True),
            ("SC", "CT", True),
        ],
    ],
)
def test_the_modality_of_a_file_is_that_of_its_row(kind, modality, is_right, tmp_path):
    assert kind in CLASSES
    path = write(tmp_path / "a.dcm", image(kind, (4, 5), bytes(20)))
    if is_right:
        require_modality(path, modality)
        return
    with pytest.raises(BadCase, match=rf"a\.dcm: the file is .*, its row says {modality}"):
        require_modality(path, modality)
