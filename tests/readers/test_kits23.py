from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.readers import get_reader
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase, find_root
from flames_cli.readers.kits23 import KITS23

SHAPE = (5, 10, 12)
IPL = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1.0]])


def draw_labels(*tumour: int) -> np.ndarray:
    """Kidney and cyst in all slices, tumour in the slices `tumour` of the first axis."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 1, 2:6], labels[:, 3, 2:4] = 1, 3
    labels[list(tumour), 5, 2:9] = 2
    return labels


def write(case: Path, labels, suffix="nii.gz") -> np.ndarray:
    case.mkdir(parents=True)
    image = derive_rng(0, "image").integers(-1000, 1000, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, IPL), case / f"imaging.{suffix}")
    nib.save(nib.Nifti1Image(labels, IPL), case / f"segmentation.{suffix}")
    return image


def read_one(root: Path):
    (source,) = KITS23.list_sources(root)
    return KITS23.read_source(source, ReadOptions())


def test_cases_are_found_in_the_data_sets_folder_and_in_its_clone(tmp_path):
    for number in (588, 0, 400):
        (tmp_path / "dataset" / f"case_{number:05d}" / "instances").mkdir(parents=True)
    (tmp_path / "dataset" / "kits23.json").write_text("[]")
    (tmp_path / "dataset" / "._case_00001").write_bytes(b"junk")
    (tmp_path / "dataset" / "case_00002").write_bytes(b"no folder")
    root = find_root(KITS23, tmp_path)
    assert root == find_root(KITS23, tmp_path / "dataset") == tmp_path / "dataset"
    sources = KITS23.list_sources(root)
    assert [source.name for source in sources] == ["case_00000", "case_00400", "case_00588"]
    assert [source.patient for source in sources] == [source.name for source in sources]


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_axial_slices_along_the_first_axis_are_read(suffix, tmp_path):
    labels = draw_labels(1, 2)
    image = write(tmp_path / "case_00003", labels, suffix)
    cases = read_one(tmp_path)
    assert [case.case for case in cases] == ["case_00003/z002", "case_00003/z003"]
    # The file's slices run down, its rows backwards and its columns leftwards.
    np.testing.assert_array_equal(cases[0].image, image[2, :, ::-1])
    np.testing.assert_array_equal(cases[0].mask, labels[2, :, ::-1] == 2)
    assert cases[0].spacing_mm == pytest.approx((0.8, 0.8))
    assert (cases[0].low, cases[0].high) == (-79.0, 304.0)


def test_kidneys_and_cysts_without_tumour_are_skipped(tmp_path):
    write(tmp_path / "case_00003", draw_labels())
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(tmp_path)


@pytest.mark.parametrize("file", ["imaging.nii.gz", "segmentation.nii.gz"])
def test_what_is_missing_or_damaged_is_named_with_its_case(file, tmp_path):
    path = tmp_path / "case_00003" / file
    write(path.parent, draw_labels(1))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadCase, match=rf"^case_00003/{file}: the gzip file is damaged"):
        read_one(tmp_path)
    path.unlink()
    with pytest.raises(BadCase, match=rf"^case_00003/{file}: there is no such file"):
        read_one(tmp_path)


def test_an_unknown_label_is_rejected(tmp_path):
    write(tmp_path / "case_00003", draw_labels(1) * 2)
    with pytest.raises(
        BadCase, match=r"^case_00003/segmentation\.nii\.gz: the mask holds the labels \[4, 6\]"
    ):
        read_one(tmp_path)


def test_the_reader_is_found_by_name():
    assert get_reader("KiTS23") is get_reader("kits") is KITS23
