from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.readers import READERS, get_reader
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase, find_root
from flames_cli.readers.msd import LIVER
from tests.support.datasets import find_shared

TASKS = {
    "msd-liver": ("Task03_Liver", "liver", (-200.0, 200.0), 2),
    "msd-lung": ("Task06_Lung", "lung", (-1000.0, 400.0), 1),
    "msd-pancreas": ("Task07_Pancreas", "pancreas", (-100.0, 240.0), 2),
}
LPS = np.diag([-0.8, -0.8, 2.5, 1.0])


def write(root: Path, labels, name: str) -> Path:
    """Both volumes hold the labels, the image as -1000 HU and on."""
    for folder, voxels in (("imagesTr", labels.astype(np.int16) - 1000), ("labelsTr", labels)):
        (root / folder).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, LPS), root / folder / name)
    return root


def every_label(labels: int) -> np.ndarray:
    """Each of 0..labels-1 once in the middle slice, which is 6×8."""
    volume = np.zeros((6, 8, 5), np.uint8)
    volume[1, :labels, 2] = range(labels)
    return volume


def read_one(name: str, root: Path, **options):
    (source,) = READERS[name].list_sources(root)
    return READERS[name].read_source(source, ReadOptions(**options))


def test_volumes_are_listed_by_number(tmp_path):
    for number in (10, 2, 1, 100):
        write(tmp_path, every_label(2), f"liver_{number}.nii.gz")
    assert [source.name for source in LIVER.list_sources(tmp_path)] == [
        "liver_1",
        "liver_2",
        "liver_10",
        "liver_100",
    ]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_by_its_folder_and_its_downloads_name(name, tmp_path):
    folder, organ, _, _ = TASKS[name]
    reader = get_reader(folder)
    assert (name, folder, organ, "CT") == (reader.name, reader.folder, reader.organ, reader.modality)
    (tmp_path / folder).mkdir()
    assert find_root(reader, tmp_path) == tmp_path / folder


@pytest.mark.parametrize("name", TASKS)
def test_only_the_tumour_is_in_the_mask(name, tmp_path):
    tumour = TASKS[name][3]
    (case,) = read_one(name, write(tmp_path, every_label(tumour + 1), "a_001.nii.gz"))
    np.testing.assert_array_equal(case.mask, case.image == tumour - 1000)
    assert case.mask.sum() == 1
    assert case.case == "a_001/z002"
    assert case.spacing_mm == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize("name", TASKS)
def test_a_window_in_hu_becomes_the_grey_scale_unless_the_user_has_one(name, tmp_path):
    write(tmp_path, every_label(TASKS[name][3] + 1), "a_001.nii.gz")
    (case,) = read_one(name, tmp_path)
    assert (case.low, case.high) == TASKS[name][2]
    (case,) = read_one(name, tmp_path, windows={"CT": (0.0, 80.0)})
    assert (case.low, case.high) == (0.0, 80.0)


@pytest.mark.parametrize("name", TASKS)
def test_a_label_that_the_task_does_not_have_is_rejected(name, tmp_path):
    unknown = TASKS[name][3] + 1
    with pytest.raises(BadCase, match=rf"^a_001\.nii\.gz: the mask holds the labels \[{unknown}\]"):
        read_one(name, write(tmp_path, every_label(unknown + 1), "a_001.nii.gz"))


@pytest.mark.parametrize("name", ["msd-liver", "msd-pancreas"])
def test_an_organ_without_tumour_is_skipped(name, tmp_path):
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(name, write(tmp_path, every_label(2), "a_001.nii.gz"))


@pytest.mark.parametrize("name", TASKS)
def test_a_real_ct_in_the_decathlons_layout_is_read(name, tmp_path):
    patient = find_shared("data/sts/STS_002")
    mask = nib.load(patient / "CT_mask.nii.gz")
    labels = np.asarray(mask.dataobj) * np.uint8(TASKS[name][3])
    write(tmp_path, np.zeros_like(labels), "sts_002.nii.gz")
    nib.save(nib.Nifti1Image(labels, mask.affine), tmp_path / "labelsTr" / "sts_002.nii.gz")
    (tmp_path / "imagesTr" / "sts_002.nii.gz").unlink()
    (tmp_path / "imagesTr" / "sts_002.nii.gz").symlink_to(patient / "CT_image.nii.gz")
    cases = read_one(name, tmp_path)
    assert [case.slice_index for case in cases] == np.flatnonzero(labels.any(axis=(0, 1))).tolist()
    for case in cases:
        # LPS in the file: 180° from RAS, and 90° on as FLAMES shows slices.
        np.testing.assert_array_equal(case.mask, np.rot90(labels[:, :, case.slice_index] > 0, 3))
        assert case.low < np.median(case.image[case.mask > 0]) < case.high
