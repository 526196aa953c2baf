from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentationFractionalTypeValues, SegmentationTypeValues
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from flames_cli.core.rng import derive_rng
from flames_cli.readers.base import BadCase
from flames_cli.readers.formats.dicom import read_series
from flames_cli.readers.formats.dicom_files import is_segmentation
from flames_cli.readers.formats.dicom_planes import UNSPECIFIED
from flames_cli.readers.formats.dicom_seg import read_segmentation
from flames_cli.readers.formats.nifti import read_volume
from flames_cli.readers.formats.volumes import stored_as
from tests.support.phantoms.dicom import part, write_enhanced, write_segmentation, write_series
from tests.support.phantoms.dicom_bytes import image, write

SHAPE = (7, 6, 5)
SPACING = (0.8, 1.25, 3.0)
AXES = ("LPS", "RAS", "LAS", "PIR", "ASL", "LIP", "RSA", "SPL")
DIRECTIONS = {"R": 0, "A": 1, "S": 2, "L": 0, "P": 1, "I": 2}


def affine_of(axes: str, turn_deg: float = 0.0) -> np.ndarray:
    """Columns, rows, slices run as `axes` say; then all is turned about the vertical."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, code in enumerate(axes):
        affine[DIRECTIONS[code], column] = SPACING[column] * (1 if code in "RAS" else -1)
    cos, sin = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = (12.5, -30.0, 101.25)
    return affine


def draw() -> np.ndarray:
    return derive_rng(0, "dicom").integers(-1000, 1500, SHAPE).astype(np.int16)


def draw_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 2, 1] = mask[5, 4:, 3] = mask[0, 0, 3] = 1
    return mask


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


@pytest.fixture
def series(tmp_path) -> Path:
    write_series(tmp_path / "CT", draw(), affine_of("LPS"), "CT", "p1", intercept=-1024)
    return tmp_path / "CT"


def change(path: Path, **values: object) -> None:
    """Set tags of one file; None takes a tag out."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def change_all(folder: Path, **values: object) -> None:
    for path in folder.iterdir():
        change(path, **values)


def file(folder: Path, number: int) -> Path:
    return folder / f"IM{number:04d}.dcm"


@pytest.mark.parametrize("turn_deg", [0, 10])
@pytest.mark.parametrize("axes", AXES)
def test_a_series_is_the_volume_that_nifti_makes_of_it(axes, turn_deg, tmp_path):
    affine = affine_of(axes, turn_deg)
    write_series(tmp_path / "series", draw(), affine, "CT", "p1", intercept=-1024)
    nifti = read_volume(write_nifti(tmp_path / "image.nii.gz", draw(), affine))
    volume = read_series(tmp_path / "series")
    np.testing.assert_array_equal(volume.voxels, nifti.voxels)
    np.testing.assert_allclose(volume.affine, stored_as(nifti, volume.axes).affine, atol=1e-4)
    assert volume.axes[:2] == axes[:2]
    assert volume.spacing_mm == pytest.approx(nifti.spacing_mm)


def test_the_names_of_the_files_do_not_matter(series):
    before = read_series(series)
    for number in (1, 2, 3, 4, 5):
        file(series, number).rename(series / f"{'cadbe'[number - 1]}.IMA")
    after = read_series(series)
    np.testing.assert_array_equal(after.voxels, before.voxels)
    np.testing.assert_array_equal(after.affine, before.affine)


def test_other_files_in_the_folder_are_ignored(series):
    before = read_series(series)
    for name in ("._IM0001.dcm", ".DS_Store", "Thumbs.db", "notes.txt", "LICENCE"):
        (series / name).write_bytes(b"junk")
    (series / "DICOMDIR").write_bytes(file(series, 1).read_bytes())
    (series / "reports").mkdir()
    np.testing.assert_array_equal(read_series(series).voxels, before.voxels)


def test_slope_and_intercept_give_intensities(series):
    stored = read_series(series).voxels + 1024
    change_all(series, RescaleSlope="0.5", RescaleIntercept="-100")
    np.testing.assert_array_equal(read_series(series).voxels, stored * 0.5 - 100)


def test_whole_values_take_no_more_memory_than_they_need(series):
    assert read_series(series).voxels.dtype == np.int16
    change(file(series, 3), RescaleSlope="0.5")
    assert read_series(series).voxels.dtype == np.float32


def test_values_beyond_sixteen_bits_are_kept(series):
    before = read_series(series).voxels
    change(file(series, 4), RescaleIntercept="40000")
    after = read_series(series).voxels
    np.testing.assert_array_equal(after[..., :3], before[..., :3])
    np.testing.assert_array_equal(after[..., 3], before[..., 3] + np.float32(41024))


def test_where_small_values_are_bright_they_are_inverted_but_never_hounsfield_units(series):
    hounsfield = read_series(series).voxels
    change_all(series, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_series(series).voxels, hounsfield)
    change_all(series, Modality="MR", RescaleIntercept="0", BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_series(series).voxels, 4095 - (hounsfield + 1024))


def test_a_mask_counts_as_it_is_stored(series):
    stored = read_series(series).voxels + 1024
    np.testing.assert_array_equal(read_series(series, labels=True).voxels, stored)


def test_a_mask_whose_label_0_is_shown_white_is_rejected(series):
    change_all(series, Modality="MR", PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(BadCase, match="the mask is MONOCHROME1, which shows 0 white, expected MONOCHROME2"):
        read_series(series, labels=True)


def test_intensities_in_a_table_are_rejected(series):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], bytes(8)
    change_all(series, ModalityLUTSequence=[table])
    with pytest.raises(
        BadCase, match=r"in a table \(ModalityLUTSequence\), expected slope and intercept; conv"
    ):
        read_series(series)


def test_one_file_is_a_volume_of_one_slice(series):
    whole = read_series(series)
    volume = read_series(file(series, 2))
    np.testing.assert_array_equal(volume.voxels[..., 0], whole.voxels[..., 1])
    assert volume.spacing_mm == pytest.approx(whole.spacing_mm)


def test_ct_of_an_unspecified_unit_is_a_remark(series):
    change_all(series, RescaleType="HU")
    assert read_series(series).notes == ()
    change_all(series, RescaleType="US")
    assert read_series(series).notes == (UNSPECIFIED,)


def test_ct_needs_no_rescale_if_it_is_a_mask_or_another_modality(series):
    change_all(series, RescaleSlope=None, RescaleIntercept=None)
    stored = read_series(series, labels=True).voxels
    change_all(series, Modality="MR")
    np.testing.assert_array_equal(read_series(series).voxels, stored)


def test_compressed_slices_are_decoded(series):
    before = read_series(series)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(series).voxels, before.voxels)


def test_bytes_after_the_pixels_are_passed_over(series):
    before = read_series(series)
    change(file(series, 1), PixelData=pydicom.dcmread(file(series, 1)).PixelData + bytes(10))
    np.testing.assert_array_equal(read_series(series).voxels, before.voxels)


def test_frames_of_an_enhanced_file_are_slices(series, tmp_path):
    whole = read_series(series)
    volume = read_series(write_enhanced(series, tmp_path / "enhanced.dcm"))
    np.testing.assert_array_equal(volume.voxels, whole.voxels)
    np.testing.assert_allclose(volume.affine, whole.affine, atol=1e-6)


def test_frames_of_an_enhanced_file_may_have_a_rescale_each(series, tmp_path):
    for number in range(1, 6):
        change(file(series, number), RescaleIntercept=str(-1000 - number))
    whole = read_series(series)
    dataset = pydicom.dcmread(write_enhanced(series, tmp_path / "enhanced.dcm"))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.PixelValueTransformationSequence
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        own = part(pydicom.dcmread(file(series, number)), "RescaleSlope", "RescaleIntercept")
        frame.PixelValueTransformationSequence = Sequence([own])
    dataset.save_as(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(read_series(tmp_path / "enhanced.dcm").voxels, whole.voxels)
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    dataset.pop("RescaleSlope", None)
    dataset.save_as(tmp_path / "enhanced.dcm")
    with pytest.raises(BadCase, match="it is CT without RescaleSlope and RescaleIntercept"):
        read_series(tmp_path / "enhanced.dcm")


def test_stills_in_one_folder_are_not_a_series(tmp_path):
    for number in (1, 2):
        write(tmp_path / f"{number}.dcm", image("US", (4, 5), bytes(20)))
    with pytest.raises(
        BadCase, match="it contains 2 stills without a position, expected the slices of one series"
    ):
        read_series(tmp_path)


def test_frames_without_a_place_are_rejected(series, tmp_path):
    path = write_enhanced(series, tmp_path / "enhanced.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence.pop()
    dataset.save_as(path)
    with pytest.raises(BadCase, match="it describes 4 of 5 frames"):
        read_series(path)
    change(path, PerFrameFunctionalGroupsSequence=None)
    with pytest.raises(BadCase, match="it contains 5 frames without a position each"):
        read_series(path)


def other_series(folder: Path) -> None:
    change(file(folder, 2), SeriesInstanceUID="1.2.3")


def lose_a_slice(folder: Path) -> None:
    file(folder, 3).unlink()


def double_a_slice(folder: Path) -> None:
    (folder / "again.dcm").write_bytes(file(folder, 3).read_bytes())


def shift_a_slice(folder: Path) -> None:
    change(file(folder, 2), ImagePositionPatient=[-12.5, 35.0, 104.25])


def turn_a_slice(folder: Path) -> None:
    change(file(folder, 5), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])


def crop_a_slice(folder: Path) -> None:
    change(file(folder, 5), Rows=3, PixelData=bytes(42))


def cut_a_file(folder: Path) -> None:
    file(folder, 1).write_bytes(file(folder, 1).read_bytes()[:-20])


def shorten_pixels(folder: Path) -> None:
    change(file(folder, 1), PixelData=bytes(60))


def claim_much(folder: Path) -> None:
    change(file(folder, 1), Rows=60000, Columns=60000)


def claim_frames(folder: Path) -> None:
    change(file(folder, 1), Rows=5000, Columns=5000, NumberOfFrames=200)


def claim_much_together(folder: Path) -> None:
    change_all(folder, Rows=7000, Columns=7000, NumberOfFrames=20)


def empty_the_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def write_text(folder: Path) -> None:
    file(folder, 1).write_text("not DICOM")


def name_syntax(uid: str) -> Callable[[Path], None]:
    def name(folder: Path) -> None:
        dataset = pydicom.dcmread(file(folder, 1))
        dataset.file_meta.TransferSyntaxUID = uid
        content = dataset.PixelData
        dataset.PixelData = pydicom.encaps.encapsulate([content]) if uid == JPEGLosslessSV1 else content
        dataset["PixelData"].VR = "OB"
        dataset.save_as(file(folder, 1))

    return name


def tag(**values: object) -> Callable[[Path], None]:
    return lambda folder: change(file(folder, 1), **values)


REFUSED = [
    (tag(PatientID="another"), r"its files are of 2 patients \(PatientID\), expected one"),
    (tag(FrameOfReferenceUID="1.2.3"), "its files are of 2 frames of reference"),
    (tag(RescaleIntercept=None), "it is CT without RescaleSlope and RescaleIntercept"),
    (tag(RescaleSlope=None), "it is CT without RescaleSlope and RescaleIntercept"),
    (tag(RescaleSlope="0"), "it is CT without RescaleSlope and RescaleIntercept"),
    (tag(RescaleType="ED"), r"it is CT with values in ED \(RescaleType\), expected HU"),
    (other_series, r"it contains 2 series, .* \(4 files\), 1\.2\.3 \(1 files\); give each its own folder"),
    (lose_a_slice, "slices are missing or uneven: IM0002.dcm and IM0004.dcm are 6.00 mm apart, others 3.00"),
    (double_a_slice, "IM0003.dcm and again.dcm have the same position"),
    (shift_a_slice, "slices are missing or uneven"),
    (turn_a_slice, "IM0005.dcm and IM0001.dcm differ in direction or spacing"),
    (crop_a_slice, r"IM0005.dcm is \(3, 7\), IM0001.dcm \(6, 7\)"),
    (cut_a_file, r"IM0001.dcm: "),
    (shorten_pixels, "it contains 60 bytes of pixels, its header claims 84"),
    (claim_much, "its header claims 60000×60000 pixels × 1; it cannot be right"),
    (claim_frames, "its header claims 5000×5000 pixels × 200; it cannot be right"),
    (claim_much_together, "its headers claim more than 8 GiB of voxels"),
    (empty_the_folder, "CT: no DICOM files in it"),
    (write_text, "IM0001.dcm: it is not a DICOM file"),
    (
        name_syntax(JPEGLosslessSV1),
        "stored as JPEG Lossless, .* cannot be decoded here; install the Python packages pylibjpeg and "
        "pylibjpeg-libjpeg, or export it uncompressed, or decompress it with DCMTK",
    ),
    (
        name_syntax(DeflatedExplicitVRLittleEndian),
        "stored as Deflated Explicit VR Little Endian, which cannot",
    ),
    (tag(PhotometricInterpretation="RGB", SamplesPerPixel=3), "its pixels are RGB, expected grey"),
    (tag(ImagePositionPatient=None), "it has no ImagePositionPatient"),
    (tag(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not two directions at a right angle"),
    (tag(ImagePositionPatient=[1, 2]), "ImagePositionPatient is not 3 finite numbers"),
    (tag(PixelSpacing=[0, 1]), "its PixelSpacing is"),
    (tag(Rows=None), "it contains no pixels"),
    (tag(PixelData=None), "it contains no pixels"),
    (tag(Columns=0), "its header claims 6×0 pixels"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_untrusted_data_are_rejected_without_the_patients_name(damage, message, series):
    change_all(series, PatientName="Secret^Person")
    damage(series)
    with pytest.raises(BadCase, match=message) as refused:
        read_series(series)
    assert "Secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_links_in_a_circle_are_not_called_damage(tmp_path):
    (tmp_path / "a.dcm").symlink_to(tmp_path / "a.dcm")
    with pytest.raises(BadCase, match=r"a\.dcm: cannot be opened \(OSError\); check its permissions"):
        read_series(tmp_path / "a.dcm")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(BadCase, match="CT: there is no such file or folder"):
        read_series(tmp_path / "CT")


@pytest.mark.parametrize("axes", AXES)
def test_a_segmentation_is_aligned_with_its_series(axes, tmp_path):
    slices = write_series(tmp_path / "CT", draw(), affine_of(axes), "CT", "p1", intercept=-1024)
    write_segmentation(tmp_path / "tumour.dcm", slices, draw_mask())
    image = read_series(tmp_path / "CT")
    mask, _ = read_segmentation(tmp_path / "tumour.dcm", image)
    expected = read_volume(write_nifti(tmp_path / "mask.nii", draw_mask(), affine_of(axes)))
    np.testing.assert_array_equal(mask.voxels, expected.voxels)
    assert (mask.file_shape, mask.axes) == (image.file_shape, image.axes)


def test_a_segmentation_is_aligned_with_a_nifti_of_its_series(tmp_path):
    slices = write_series(tmp_path / "CT", draw(), affine_of("LPS"), "CT", "p1", intercept=-1024)
    write_segmentation(tmp_path / "tumour.dcm", slices, draw_mask())
    image = read_volume(write_nifti(tmp_path / "image.nii", draw()[:, ::-1], flipped(affine_of("LPS"))))
    mask, _ = read_segmentation(tmp_path / "tumour.dcm", image)
    np.testing.assert_array_equal(mask.voxels, draw_mask()[::-1, ::-1])
    assert mask.axes == "LAS"


def flipped(affine: np.ndarray) -> np.ndarray:
    """The same grid, its rows counted from the other end."""
    turn = np.diag([1.0, -1.0, 1.0, 1.0])
    turn[1, 3] = SHAPE[1] - 1
    return affine @ turn


@pytest.fixture
def segmentation(series) -> Path:
    slices = [pydicom.dcmread(file(series, number)) for number in range(1, 6)]
    write_segmentation(series.parent / "tumour.dcm", slices, draw_mask())
    return series.parent / "tumour.dcm"


def test_a_segmentation_is_distinguished_from_a_series(series, segmentation):
    assert is_segmentation(segmentation)
    assert not is_segmentation(series)
    assert not is_segmentation(file(series, 1))
    folder = segmentation.parent / "folder"
    folder.mkdir()
    assert is_segmentation(segmentation.rename(folder / "1.dcm").parent)


def test_several_segments_need_a_choice(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    second = dataset.PerFrameFunctionalGroupsSequence[1]
    second.SegmentIdentificationSequence = Sequence([Dataset()])
    second.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
    dataset.save_as(segmentation)
    image = read_series(series)
    with pytest.raises(BadCase, match=r'2 segments, 1 "tumour" \(3 px\), 2 "" \(3 px\); expected'):
        read_segmentation(segmentation, image)
    whole, _ = read_segmentation(segmentation, image, ["Tumour ", "2"])
    np.testing.assert_array_equal(whole.voxels, draw_mask()[::-1, ::-1])
    second, _ = read_segmentation(segmentation, image, ["2"])
    assert 0 < np.count_nonzero(second.voxels) < np.count_nonzero(whole.voxels)


def test_a_segmentation_of_fractions_is_rejected(series, segmentation):
    change(segmentation, SegmentationType=SegmentationTypeValues.FRACTIONAL.value)
    change(segmentation, SegmentationFractionalType=SegmentationFractionalTypeValues.PROBABILITY.value)
    with pytest.raises(BadCase, match="of fractions, expected a binary one"):
        read_segmentation(segmentation, read_series(series))


@pytest.mark.parametrize(
    ("shift", "zoom", "message"),
    [
        ((0.4, 0, 0), (1, 1, 1), "is between its image's voxels"),
        ((0, 0, 1.5), (1, 1, 1), "is between its image's voxels"),
        ((0, 0, 0), (2, 2, 1), "is between its image's voxels"),
        ((0, 0, 0), (1, 1, 2), "is between its image's voxels"),
        ((0, 0, 30.0), (1, 1, 1), "reaches beyond its image"),
        ((-8.0, 0, 0), (1, 1, 1), "reaches beyond its image"),
    ],
)
def test_a_segmentation_of_another_grid_is_rejected(shift, zoom, message, series, tmp_path):
    affine = affine_of("LPS") @ np.diag([*zoom, 1.0])
    affine[:3, 3] += shift
    slices = write_series(tmp_path / "other", draw(), affine, "CT", "p1", intercept=-1024)
    write_segmentation(tmp_path / "other.dcm", slices, draw_mask())
    with pytest.raises(BadCase, match=message):
        read_segmentation(tmp_path / "other.dcm", read_series(series))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["series", "segmentation"]),
    edits=st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=4)), max_size=8),
    cut=st.integers(0, 2**16),
)
def test_a_file_of_any_bytes_is_read_or_rejected(kind, edits, cut, series, segmentation, tmp_path):
    source = file(series, 1) if kind == "series" else segmentation
    content = bytearray(source.read_bytes())
    for place, new in edits:
        start = place % len(content)
        content[start : start + len(new)] = new
    path = tmp_path / "damaged.dcm"
    path.write_bytes(content[: cut % (4 * len(content))])
    try:
        volume = read_series(path) if kind == "series" else read_segmentation(path, read_series(series))[0]
    except BadCase:
        return
    assert volume.voxels.ndim == 3
    assert np.isfinite(volume.voxels).all()
