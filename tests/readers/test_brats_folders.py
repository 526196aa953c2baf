from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.readers import READERS, get_reader
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase, find_root

SHAPE = (8, 9, 12)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
FIRST = {"brats2020": "BraTS20_Training_001", "brats2021": "BraTS2021_00000"}


def draw_labels(*slices: int, label: int = 2) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2, list(slices)] = label
    return labels


def write(folder: Path, labels, suffix="nii.gz", segmentation="") -> np.ndarray:
    """All four images of a patient, and the segmentation; returns FLAIR."""
    folder.mkdir(parents=True)
    images = {}
    for kind in ("flair", "t1", "t1ce", "t2"):
        images[kind] = derive_rng(0, kind).integers(1, 900, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(images[kind], LPS), folder / f"{folder.name}_{kind}.{suffix}")
    nib.save(nib.Nifti1Image(labels, LPS), folder / (segmentation or f"{folder.name}_seg.{suffix}"))
    return images["flair"]


def read_one(name: str, root: Path, **options):
    (source,) = READERS[name].list_sources(root)
    return READERS[name].read_source(source, ReadOptions(**options))


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("name", FIRST)
def test_flair_and_segmentation_are_read_from_the_patients_folder(name, suffix, tmp_path):
    flair = write(tmp_path / FIRST[name], draw_labels(4), suffix)
    (case,) = read_one(name, tmp_path)
    assert (case.case, case.patient) == (f"{FIRST[name]}/z004", FIRST[name])
    np.testing.assert_array_equal(case.image, np.rot90(flair[::-1, ::-1, 4]))
    assert (case.low, case.high) == (0.0, pytest.approx(np.percentile(flair, 95)))


@pytest.mark.parametrize("label", [1, 2, 4])
@pytest.mark.parametrize("name", FIRST)
def test_every_label_above_zero_is_tumour(name, label, tmp_path):
    write(tmp_path / FIRST[name], draw_labels(4, label=label))
    (case,) = read_one(name, tmp_path)
    assert case.mask.sum() == 1


@pytest.mark.parametrize("name", FIRST)
def test_slices_near_the_tumours_mean_index_are_kept(name, tmp_path):
    write(tmp_path / FIRST[name], draw_labels(*range(1, 10)))
    assert [case.slice_index for case in read_one(name, tmp_path, slice_half_width=2)] == [3, 4, 5, 6, 7]
    assert len(read_one(name, tmp_path, slice_half_width=2, slices="lesion")) == 9


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_the_misnamed_segmentation_of_2020_is_taken(suffix, tmp_path):
    misnamed = f"W39_1998.09.19_Segm.{suffix}"
    write(tmp_path / "BraTS20_Training_355", draw_labels(4), suffix, misnamed)
    (tmp_path / "BraTS20_Training_355" / f"._{misnamed}").write_bytes(b"junk")
    (case,) = read_one("brats2020", tmp_path)
    assert case.case == "BraTS20_Training_355/z004"


def test_a_segmentation_of_the_right_name_is_put_before_a_misnamed_one(tmp_path):
    folder = tmp_path / "BraTS20_Training_355"
    write(folder, draw_labels(4))
    (folder / "A_Segm.nii").write_bytes(b"junk")
    (source,) = READERS["brats2020"].list_sources(tmp_path)
    assert source.masks[0].name == "BraTS20_Training_355_seg.nii.gz"


@pytest.mark.parametrize("name", FIRST)
def test_only_folders_of_patients_are_listed(name, tmp_path):
    reader = READERS[name]
    root = tmp_path / reader.folder
    for other in ("BraTS20_Validation_001", "BraTS20_Training_002", "BraTS2021_00002", "notes"):
        (root / other).mkdir(parents=True)
    (root / FIRST[name]).write_bytes(b"a file")
    (root / "name_mapping.csv").write_text("")
    assert find_root(reader, tmp_path) == root
    expected = {"brats2020": "BraTS20_Training_002", "brats2021": "BraTS2021_00002"}[name]
    assert [source.name for source in reader.list_sources(root)] == [expected]


def test_patients_are_in_order_and_collections_are_sites(tmp_path):
    for folder in ("UPENN-GBM/BraTS2021_00002", "TCGA-GBM/BraTS2021_00000", "UPENN-GBM/BraTS2021_00009"):
        (tmp_path / folder).mkdir(parents=True)
    listed = READERS["brats2021"].list_sources(tmp_path)
    assert [(source.patient, source.site) for source in listed] == [
        ("BraTS2021_00000", "TCGA-GBM"),
        ("BraTS2021_00002", "UPENN-GBM"),
        ("BraTS2021_00009", "UPENN-GBM"),
    ]


def test_a_single_folder_around_the_patients_is_no_site(tmp_path):
    (tmp_path / "TrainingData" / "BraTS2021_00000").mkdir(parents=True)
    assert [source.site for source in READERS["brats2021"].list_sources(tmp_path)] == [""]


@pytest.mark.parametrize("kind", ["flair", "seg"])
@pytest.mark.parametrize("name", FIRST)
def test_a_file_that_is_missing_is_named(name, kind, tmp_path):
    write(tmp_path / FIRST[name], draw_labels(4))
    (tmp_path / FIRST[name] / f"{FIRST[name]}_{kind}.nii.gz").unlink()
    with pytest.raises(BadCase, match=rf"^{FIRST[name]}_{kind}\.nii\.gz: there is no such file"):
        read_one(name, tmp_path)


@pytest.mark.parametrize(
    ("labels", "error", "found"),
    [
        (draw_labels(4, label=5), BadCase, r"the mask holds the labels \[5\]"),
        (draw_labels(4)[1:], BadCase, r"the mask is \(7, 9, 12\), its image \(8, 9, 12\)"),
        (draw_labels(), SkippedCase, "the mask is empty"),
    ],
)
def test_a_segmentation_that_cannot_be_used_is_reported(labels, error, found, tmp_path):
    write(tmp_path / FIRST["brats2021"], labels)
    with pytest.raises(error, match=found):
        read_one("brats2021", tmp_path)


@pytest.mark.parametrize("name", FIRST)
def test_a_year_is_found_by_its_name(name):
    assert name == get_reader(name.upper()).name
