"""Masks of DICOM images are segmentations of their instances, voxel by voxel."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage

from flames_cli.core.imaging.volumes import restore_volume
from flames_cli.core.rng import derive_rng
from flames_cli.errors import install_extra
from flames_cli.readers.base import ReadOptions, Source
from flames_cli.readers.formats.any_kind import read_any
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_seg import read_segmentation
from flames_cli.readers.inputs import InputImage, find_inputs, read_input
from flames_cli.writers import dicom_seg
from flames_cli.writers.label import ModelLabel
from flames_cli.writers.masks import write_mask, write_probabilities
from tests.readers.formats.test_dicom import AXES, affine_of, change_all
from tests.support.phantoms.dicom import write_enhanced, write_series
from tests.support.phantoms.dicom_bytes import image, write

SHAPE = (6, 5, 4)
LIMIT = 600
BY = ModelLabel("mri", "0.1.0")
LENIENT = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
"""Choices of highdicom: slices without tumour are left out, and stills have no position."""
PLANES = ("axial", "coronal", "sagittal")


def draw(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    voxels = derive_rng(0, "seg").integers(0, 1000, shape).astype(np.int16)
    voxels[:, :, 1] = 0  # a slice without tumour
    return voxels


def make_series(folder: Path, affine: np.ndarray, modality: str = "MR") -> InputImage:
    write_series(folder / "scan", draw(), affine, modality, "p1")
    return find(folder / "scan")


def find(path: Path) -> InputImage:
    (found,) = find_inputs([path]).inputs
    return found


def predict(image: InputImage, plane: str = "axial") -> np.ndarray:
    """The mask of all that is bright, slice by slice, put back into the volume."""
    cases = read_input(image, ReadOptions(plane=plane))
    place = cases[0].place
    assert place
    return restore_volume({one.slice_index: (one.image > LIMIT).astype(np.uint8) for one in cases}, place)


def write_on(image: InputImage, folder: Path) -> Path:
    written = write_mask(predict(image), image, folder / "mask", BY, overwrite=True)
    assert written.notes == ()
    assert written.path == folder / "mask.dcm"
    return written.path


def assert_on_instances(path: Path, image: InputImage) -> None:
    """As highdicom reads it: the frame of each instance is what is bright in that instance."""
    segmentation = segread(path)
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["tumour"]
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in image.files]
    frames = segmentation.get_pixels_by_source_instance(uids, **LENIENT)
    for file, frame in zip(image.files, frames, strict=True):
        np.testing.assert_array_equal(frame[..., 0], pydicom.dcmread(file).pixel_array > LIMIT)


def assert_on_voxels(path: Path, image: InputImage) -> None:
    """As our own readers read it, by position; also as the mask of a manifest."""
    like = read_series(image.files[0].parent, files=image.files)
    found, _ = read_segmentation(path, like)
    assert found.axes == like.axes
    np.testing.assert_array_equal(found.voxels > 0, like.voxels > LIMIT)
    source = Source("a", "p", image.files[0], (path,), modality="MRI", files=image.files)
    cases = read_any(source, ReadOptions(slices="all", keep_empty=True))
    assert all(np.array_equal(one.mask > 0, one.image > LIMIT) for one in cases)


@pytest.mark.parametrize("turn_deg", [0.0, 25.0])
@pytest.mark.parametrize("axes", AXES)
def test_the_mask_of_a_series_is_on_its_voxels_in_all_directions(axes, turn_deg, tmp_path):
    scan = make_series(tmp_path, affine_of(axes, turn_deg))
    path = write_on(scan, tmp_path)
    assert_on_instances(path, scan)
    assert_on_voxels(path, scan)
    for plane in PLANES:  # slices of every plane make the same mask
        np.testing.assert_array_equal(predict(scan, plane), predict(scan))


@settings(max_examples=20)
@given(
    angle=st.floats(-60, 60), tilt=st.floats(-30, 30), rows_mm=st.floats(0.3, 3), slices_mm=st.floats(0.5, 8)
)
@example(angle=0.0, tilt=2.5, rows_mm=0.3125, slices_mm=5.0)  # a tilt so small that the file has a distance
def test_the_mask_of_an_oblique_or_tilted_series_is_on_its_voxels(
    angle, tilt, rows_mm, slices_mm, tmp_path_factory
):
    turn, tan = np.deg2rad(angle), np.tan(np.deg2rad(tilt))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine[:3, :3] @= np.diag([-rows_mm, -rows_mm, slices_mm])
    affine[:3, 2] += tan * slices_mm * affine[:3, 1] / rows_mm
    folder = tmp_path_factory.mktemp("oblique")
    scan = make_series(folder, affine)
    path = write_on(scan, folder)
    assert_on_instances(path, scan)
    assert_on_voxels(path, scan)


@pytest.mark.parametrize("axes", ["LPS", "SPL", "ASL"])
@pytest.mark.parametrize("own_class", [EnhancedMRImageStorage, MRImageStorage])
def test_the_mask_of_an_enhanced_file_is_on_its_frames(axes, own_class, tmp_path):
    make_series(tmp_path, affine_of(axes))
    enhanced = pydicom.dcmread(write_enhanced(tmp_path / "scan", tmp_path / "enhanced.dcm"))
    enhanced.SOPClassUID = own_class  # some writers keep the class of single slices
    enhanced.save_as(tmp_path / "enhanced.dcm")
    scan = find(tmp_path / "enhanced.dcm")
    assert scan.kind == "series"
    path = write_on(scan, tmp_path)
    assert_on_voxels(path, scan)
    segmentation, source = segread(path), pydicom.dcmread(scan.files[0])
    frames = segmentation.get_pixels_by_source_frame(source.SOPInstanceUID, range(1, 5), **LENIENT)
    np.testing.assert_array_equal(frames[..., 0], source.pixel_array > LIMIT)


def test_the_names_of_the_files_do_not_matter(tmp_path):
    make_series(tmp_path, affine_of("LPS"))
    for number, path in enumerate(sorted((tmp_path / "scan").iterdir())):
        path.rename(path.with_name(f"x{(number * 3) % 4}"))
    scan = find(tmp_path / "scan")
    path = write_on(scan, tmp_path)
    assert_on_instances(path, scan)
    assert_on_voxels(path, scan)


def test_the_series_of_a_folder_with_several_have_masks_of_their_own(tmp_path):
    for name in ("a", "b"):
        write_series(tmp_path / name, draw(), affine_of("LPS"), "MR", "p1")
        for path in (tmp_path / name).iterdir():
            path.rename(tmp_path / f"{name}{path.stem}")
        (tmp_path / name).rmdir()
    scans = find_inputs([tmp_path]).inputs
    assert [(one.name, len(one.files)) for one in scans] == [("aIM0001", 4), ("bIM0001", 4)]
    for scan in scans:
        path = write_on(scan, tmp_path / "out" / scan.name)
        assert_on_instances(path, scan)
        assert_on_voxels(path, scan)


def test_the_file_names_its_model_its_patient_and_its_study(tmp_path):
    scan = make_series(tmp_path, affine_of("LPS"), "CT")
    made, source = pydicom.dcmread(write_on(scan, tmp_path)), pydicom.dcmread(scan.files[0])
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert made[name].value == source[name].value
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.SeriesDescription == "tumour mask by FLAMES model mri (0.1.0)"
    (segment,) = made.SegmentSequence
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("FLAMES model mri", "0.1.0")
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert made.NumberOfFrames == 3  # the slice without tumour is left out


@pytest.mark.parametrize(
    "values",
    [
        {"SliceThickness": None},
        {"StudyDate": None, "StudyID": None, "AccessionNumber": None, "PatientSex": None},
        {"StudyDate": "2020-13-45", "StudyTime": "noon"},
        {"PatientBirthDate": "unknown", "PatientSex": "female"},
        {"PatientID": None, "PatientName": None, "InstanceNumber": None, "Manufacturer": None},
        {"PixelSpacing": [1.25001, 0.8]},
    ],
)
def test_elements_that_anonymisation_changed_do_not_prevent_a_segmentation(values, tmp_path):
    make_series(tmp_path, affine_of("LPS"))
    change_all(tmp_path / "scan", **values)
    scan = find(tmp_path / "scan")
    path = write_on(scan, tmp_path)
    assert_on_instances(path, scan)
    assert_on_voxels(path, scan)
    assert str(pydicom.dcmread(path).PatientSex) in ("", "None")


@pytest.mark.parametrize("name", ["FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID"])
def test_a_series_without_the_identifiers_that_references_need_has_a_nifti(name, tmp_path):
    make_series(tmp_path, affine_of("LPS", 25.0))
    change_all(tmp_path / "scan", **{name: None})
    scan = find(tmp_path / "scan")
    written = write_mask(predict(scan), scan, tmp_path / "mask", BY)
    assert written.path.name == "mask.nii.gz"
    assert written.notes[0].startswith("the mask is NIfTI, since no DICOM-SEG can refer to the image (")
    assert_same_space(written.path, scan)


def test_a_series_of_one_slice_has_a_segmentation(tmp_path):
    make_series(tmp_path, affine_of("PIR"))
    scan = find(tmp_path / "scan" / "IM0003.dcm")
    path = write_on(scan, tmp_path)
    assert_on_instances(path, scan)
    assert_on_voxels(path, scan)
    made = pydicom.dcmread(path)
    assert not [one for one in made.iterall() if one.keyword == "SpacingBetweenSlices"]
    (measures,) = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    measures.SpacingBetweenSlices = 1.0  # as highdicom writes it
    made.save_as(path)
    assert_on_voxels(path, scan)


def test_an_empty_mask_is_a_valid_file_of_all_slices(tmp_path):
    scan = make_series(tmp_path, affine_of("LPS"))
    written = write_mask(np.zeros(SHAPE, np.uint8), scan, tmp_path / "empty", BY)
    assert written.notes == ()
    assert segread(written.path).NumberOfFrames == 4
    found, _ = read_segmentation(written.path, read_series(tmp_path / "scan"))
    assert not found.voxels.any()


def test_the_same_mask_has_the_same_identifier_and_another_mask_another(tmp_path):
    scan = make_series(tmp_path, affine_of("LPS"))
    masks = [predict(scan), predict(scan), 1 - predict(scan)]
    made = [write_mask(mask, scan, tmp_path / f"m{index}", BY).path for index, mask in enumerate(masks)]
    first, same, other = (pydicom.dcmread(path) for path in made)
    assert first.SOPInstanceUID == same.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == other.SeriesInstanceUID


STILL = (6, 7)


def pixels(frames: int = 1) -> np.ndarray:
    return derive_rng(1, "seg").integers(0, 256, (frames, *STILL)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["US", "MG", "CR", "SC"])
@pytest.mark.parametrize("reference", [None, "1.2.3.9"])
def test_a_still_has_a_segmentation_of_its_instance(kind, reference, tmp_path):
    write(tmp_path / "a.dcm", image(kind, STILL, pixels().tobytes(), frame_of_reference=reference))
    still = find(tmp_path / "a.dcm")
    assert still.kind == "dicom-still"
    (case,) = read_input(still, ReadOptions())
    written = write_mask(case.image > 99, still, tmp_path / "mask", BY)
    assert written.notes == ()
    made = segread(written.path)
    frames = made.get_pixels_by_source_instance(["1.2.3.4"], ignore_spatial_locations=True)
    np.testing.assert_array_equal(frames[0, ..., 0], pixels()[0] > 99)
    classes = {str(one.value) for one in made.iterall() if one.keyword == "ReferencedSOPClassUID"}
    assert classes == {str(pydicom.dcmread(tmp_path / "a.dcm").SOPClassUID)}
    assert "PatientOrientation" in made  # a still without a position needs it, even if it is empty
    (again,) = read_any(
        Source("a", "p", tmp_path / "a.dcm", (written.path,), modality="X-ray"), ReadOptions()
    )
    np.testing.assert_array_equal(again.mask > 0, again.image > 99)


def test_a_frame_of_a_clip_has_a_segmentation_that_names_the_frame(tmp_path):
    write(tmp_path / "clip.dcm", image("US clip", STILL, pixels(3).tobytes(), frames=3))
    frames = find_inputs([tmp_path / "clip.dcm"]).inputs
    assert [one.name for one in frames] == ["clip/frame1", "clip/frame2", "clip/frame3"]
    for number, frame in enumerate(frames, start=1):
        (case,) = read_input(frame, ReadOptions())
        np.testing.assert_array_equal(case.image, pixels(3)[number - 1])
        path = write_mask(case.image > 99, frame, tmp_path / "out" / frame.name, BY).path
        made = pydicom.dcmread(path)
        (derivation,) = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
        for references in (made.SourceImageSequence, derivation.SourceImageSequence):
            assert [one.ReferencedFrameNumber for one in references] == [number]
        (series,) = made.ReferencedSeriesSequence
        assert "ReferencedFrameNumber" not in series.ReferencedInstanceSequence[0]
        source = Source("a", "p", tmp_path / "clip.dcm", (path,), modality="US", frame=number)
        (again,) = read_any(source, ReadOptions())
        np.testing.assert_array_equal(again.mask > 0, case.image > 99)


def test_an_empty_mask_of_a_still_is_valid(tmp_path):
    write(tmp_path / "a.dcm", image("US", STILL, pixels().tobytes()))
    path = write_mask(np.zeros(STILL), find(tmp_path / "a.dcm"), tmp_path / "mask", BY).path
    assert not segread(path).pixel_array.any()


def test_a_file_without_the_data_of_its_patient_has_a_segmentation(tmp_path):
    elements = image("US", STILL, pixels().tobytes(), patient_id=None, patient_name=None)
    write(tmp_path / "a.dcm", elements)
    path = write_mask(pixels()[0] > 99, find(tmp_path / "a.dcm"), tmp_path / "mask", BY).path
    assert pydicom.dcmread(path).PatientName == ""


@pytest.mark.parametrize(
    ("charset", "encoding", "name"),
    [
        ("ISO_IR 100", "latin-1", "Jürgen^Müller"),
        ("ISO_IR 192", "utf-8", "Jürgen^Müller"),
        ("\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
    ],
)
def test_a_name_in_any_script_is_copied_readably(charset, encoding, name, tmp_path):
    elements = image("US", STILL, pixels().tobytes(), patient_name=name.encode(encoding))
    elements[(0x0008, 0x0005)] = ("CS", charset)
    write(tmp_path / "a.dcm", elements)
    path = write_mask(pixels()[0] > 99, find(tmp_path / "a.dcm"), tmp_path / "mask", BY).path
    assert str(pydicom.dcmread(path).PatientName) == name


def test_where_no_segmentation_can_refer_to_the_image_the_mask_is_another_format(tmp_path):
    write(tmp_path / "a.dcm", image("US", STILL, pixels().tobytes(), instance=None))
    written = write_mask(pixels()[0] > 99, find(tmp_path / "a.dcm"), tmp_path / "mask", BY)
    assert written.path.name == "mask.png"
    assert written.notes == (
        "the mask is PNG, since no DICOM-SEG can refer to the image (highdicom raised AttributeError)",
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.dcm", "mask.png"]


def test_without_highdicom_masks_are_nifti_and_png_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert not dicom_seg.is_available()
    scan = make_series(tmp_path, affine_of("PIR", 25.0))
    written = write_mask(predict(scan), scan, tmp_path / "mask", BY)
    note = f"the mask is {{}}, since DICOM-SEG needs another package: {install_extra('dicom')}"
    assert (written.path.name, written.notes) == ("mask.nii.gz", (note.format("NIfTI"),))
    assert_same_space(written.path, scan)
    write(tmp_path / "a.dcm", image("US", STILL, pixels().tobytes()))
    written = write_mask(pixels()[0] > 99, find(tmp_path / "a.dcm"), tmp_path / "still", BY)
    assert (written.path.name, written.notes) == ("still.png", (note.format("PNG"),))


def assert_same_space(path: Path, scan: InputImage) -> None:
    """Each pixel of each file is found in the NIfTI by its position in mm, as pydicom and nibabel say."""
    loaded = nib.load(path)
    values, to_voxel = np.asarray(loaded.dataobj), np.linalg.inv(loaded.affine)
    for file in scan.files:
        one = pydicom.dcmread(file)
        rows, columns = np.indices(one.pixel_array.shape)
        along_columns, along_rows = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
        rows_mm, columns_mm = map(float, one.PixelSpacing)
        lps = np.array(one.ImagePositionPatient, float) + (
            columns[..., None] * along_columns * columns_mm + rows[..., None] * along_rows * rows_mm
        )
        voxel = lps * [-1, -1, 1] @ to_voxel[:3, :3].T + to_voxel[:3, 3]
        np.testing.assert_allclose(voxel, np.rint(voxel), atol=1e-3)
        np.testing.assert_array_equal(
            values[tuple(np.rint(voxel).astype(int).transpose(2, 0, 1))] > 0, one.pixel_array > LIMIT
        )


@pytest.mark.parametrize("axes", AXES)
def test_probabilities_of_a_series_are_nifti_in_its_space(axes, tmp_path):
    scan = make_series(tmp_path, affine_of(axes, 25.0))
    written = write_probabilities(predict(scan).astype(float), scan, tmp_path / "p", BY)
    assert written.path.name == "p.nii.gz"
    assert nib.load(written.path).header.get_xyzt_units()[0] == "mm"
    assert_same_space(written.path, scan)
    loaded = nib.load(written.path)
    np.testing.assert_allclose(loaded.get_qform(), loaded.get_sform(), atol=1e-4)


def test_a_tilted_series_has_an_sform_alone(tmp_path):
    affine = affine_of("LPS")
    affine[1, 2] = 1.0
    scan = make_series(tmp_path, affine)
    written = write_probabilities(predict(scan).astype(float), scan, tmp_path / "p", BY)
    assert_same_space(written.path, scan)
    header = nib.load(written.path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)


def test_probabilities_of_a_still_are_png(tmp_path):
    write(tmp_path / "a.dcm", image("US", STILL, pixels().tobytes()))
    written = write_probabilities(pixels()[0] / 255, find(tmp_path / "a.dcm"), tmp_path / "p", BY)
    assert (written.path.name, written.notes) == ("p.png", ())


def test_threads_write_masks_at_the_same_time(tmp_path):
    scan = make_series(tmp_path, affine_of("LPS"))
    mask, filters = predict(scan), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: write_mask(mask, scan, tmp_path / f"m{n}", BY), range(8)))
    assert all(one.notes == () for one in made)
    assert_on_voxels(made[-1].path, scan)
    assert warnings.filters == filters


def test_a_character_set_that_does_not_exist_is_no_reason_to_fail(tmp_path):
    elements = image("US", STILL, pixels().tobytes(), patient_name=b"J\xfcrgen")
    elements[(0x0008, 0x0005)] = ("CS", "WRONG")
    write(tmp_path / "a.dcm", elements)
    written = write_mask(pixels()[0] > 99, find(tmp_path / "a.dcm"), tmp_path / "mask", BY)
    assert written.path.exists()


def test_a_mask_of_another_shape_is_a_fault_of_the_caller(tmp_path):
    scan = make_series(tmp_path, affine_of("LPS"))
    with pytest.raises(ValueError, match="the mask is"):
        write_mask(np.zeros(SHAPE[::-1]), scan, tmp_path / "mask", BY)


def test_highdicom_is_loaded_only_when_a_segmentation_is_written():
    code = "import sys, flames_cli.writers.masks; print('highdicom' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
