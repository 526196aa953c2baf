from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.core.rng import derive_rng
from flames_cli.readers import get_reader
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.lits import LITS

SHAPE = (20, 24, 6)
LAS = np.diag([-0.8, 0.8, 2.5, 1.0])
MATLAB = np.eye(4)
MATLAB[:3, 3] = 1.0


def draw_labels(*tumour_px: int) -> np.ndarray:
    """Liver in all slices; `tumour_px` tumour pixels in the first slices."""
    labels = np.ones(SHAPE, np.uint8)
    for index, count in enumerate(tumour_px):
        labels[:, :, index].flat[:count] = 2
    return labels


def write(folder: Path, number: int, labels, affine=LAS, labels_affine=LAS, suffix="nii") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    image = derive_rng(number, "image").integers(-1000, 1000, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(image, affine), folder / f"volume-{number}.{suffix}")
    nib.save(nib.Nifti1Image(labels, labels_affine), folder / f"segmentation-{number}.{suffix}")
    return image


def read_one(root: Path, **options):
    (source,) = LITS.list_sources(root)
    return LITS.read_source(source, ReadOptions(**options))


def place(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return [source.image.relative_to(root).as_posix() for source in LITS.list_sources(root)]


@pytest.mark.parametrize(
    ("volumes", "segmentations"),
    [
        (("volume-0.nii", "volume-28.nii"), ("segmentation-0.nii", "segmentation-28.nii")),
        (("volume-0.nii.gz", "volume-28.nii.gz"), ("segmentation-0.nii.gz", "segmentation-28.nii.gz")),
        (
            ("Training Batch 1/volume-0.nii", "Training Batch 2/volume-28.nii"),
            ("Training Batch 1/segmentation-0.nii", "Training Batch 2/segmentation-28.nii"),
        ),
        (
            ("volume_pt1/volume-0.nii", "volume_pt3/volume-28.nii"),
            ("segmentations/segmentation-0.nii", "segmentations/segmentation-28.nii"),
        ),
        (
            ("part 1/volume_pt1/volume-0.nii", "part 2/volume_pt6/volume-28.nii"),
            ("part 1/segmentations/segmentation-0.nii", "part 1/segmentations/segmentation-28.nii"),
        ),
    ],
)
def test_volumes_are_found_flat_in_batches_and_as_kaggle_has_them(volumes, segmentations, tmp_path):
    assert place(tmp_path, *segmentations, *volumes) == list(volumes)
    masks = [source.masks[0].relative_to(tmp_path).as_posix() for source in LITS.list_sources(tmp_path)]
    assert masks == list(segmentations)


def test_volumes_are_listed_by_number_and_named_as_their_files(tmp_path):
    place(tmp_path, "volume-10.nii", "volume-9.nii", "volume-100.nii")
    sources = LITS.list_sources(tmp_path)
    assert [source.name for source in sources] == ["volume-9", "volume-10", "volume-100"]
    assert [source.patient for source in sources] == ["volume-9", "volume-10", "volume-100"]


def test_junk_and_the_challenges_test_volumes_are_ignored(tmp_path):
    junk = [
        "._volume-1.nii",
        "test-volume-2.nii",
        "volume-3.nii.zip",
        "__MACOSX/._volume-4.nii",
        "volume-x.nii",
    ]
    assert place(tmp_path, "volume-0.nii", "segmentation-0.nii", *junk) == ["volume-0.nii"]


@pytest.mark.parametrize(
    ("number", "site"),
    [
        (0, "C1"),
        (29, "C1"),
        (30, "C2"),
        (59, "C2"),
        (60, "C3"),
        (90, "C4"),
        (119, "C4"),
        (120, "C5"),
        (130, "C5"),
    ],
)
def test_centres_are_distinguished_by_number(number, site, tmp_path):
    place(tmp_path, f"volume-{number}.nii")
    assert LITS.list_sources(tmp_path)[0].site == site


def test_slices_with_more_than_fifty_tumour_pixels_are_kept(tmp_path):
    write(tmp_path, 3, draw_labels(51, 50, 1, 0, 200))
    cases = read_one(tmp_path)
    assert [(case.case, int(case.mask.sum())) for case in cases] == [
        ("volume-3/z000", 51),
        ("volume-3/z004", 200),
    ]
    assert {(case.low, case.high) for case in cases} == {(-200.0, 200.0)}
    assert len(read_one(tmp_path, slices="all")) == 6


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_segmentation_whose_header_has_no_meaning_is_read_in_its_volumes_order(suffix, tmp_path):
    labels = draw_labels(0, 70)
    image = write(tmp_path, 53, labels, labels_affine=MATLAB, suffix=suffix)
    (case,) = read_one(tmp_path)
    np.testing.assert_array_equal(case.image, np.rot90(image[::-1, :, 1]))
    np.testing.assert_array_equal(case.mask, np.rot90(labels[::-1, :, 1]) == 2)
    assert case.spacing_mm == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize("axes", [np.diag([-0.8, -0.8, 2.5, 1.0]), np.diag([0.8, 0.8, -2.5, 1.0])])
def test_headers_that_agree_give_the_same_as_those_that_do_not(axes, tmp_path):
    labels = draw_labels(60, 0, 0, 80)
    for folder, header in (("agree", axes), ("differ", MATLAB)):
        write(tmp_path / folder, 1, labels, axes, header)
    pairs = zip(read_one(tmp_path / "agree"), read_one(tmp_path / "differ"), strict=True)
    for one, other in pairs:
        assert one.case == other.case
        np.testing.assert_array_equal(one.mask, other.mask)


def test_a_segmentation_of_another_shape_is_rejected(tmp_path):
    write(tmp_path, 1, draw_labels(60)[:, :, :5])
    with pytest.raises(BadCase, match=r"^volume-1: the mask is \(20, 24, 5\), its image \(20, 24, 6\)"):
        read_one(tmp_path)


@pytest.mark.parametrize("kind", ["volume", "segmentation"])
def test_a_file_that_is_missing_is_named(kind, tmp_path):
    write(tmp_path, 1, draw_labels(60))
    (tmp_path / f"{kind}-1.nii").unlink()
    with pytest.raises(BadCase, match=rf"^{kind}-1\.nii: there is no such file"):
        read_one(tmp_path)


def test_an_unknown_label_is_rejected(tmp_path):
    write(tmp_path, 1, draw_labels(60) + 1)
    with pytest.raises(BadCase, match=r"^segmentation-1\.nii: the mask holds the labels \[3\]"):
        read_one(tmp_path)


@pytest.mark.parametrize(("tumour_px", "why"), [((), "the mask is empty"), ((50, 50), "no slice holds 51")])
def test_a_liver_without_tumour_or_with_small_ones_only_is_skipped(tumour_px, why, tmp_path):
    write(tmp_path, 1, draw_labels(*tumour_px))
    with pytest.raises(SkippedCase, match=why):
        read_one(tmp_path)


def test_the_reader_is_found_by_name():
    assert get_reader("LiTS") is get_reader("lits17") is LITS
