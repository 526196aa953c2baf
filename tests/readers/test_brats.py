import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from flames_cli.core.imaging.geometry import to_square
from flames_cli.core.imaging.intensity import quantise, scale
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.readers.base import BadCase, ReadOptions, SkippedCase
from flames_cli.readers.msd import BRATS
from tests.support.datasets import find_shared
from tests.support.raw_cases import iter_raw_cases

SHAPE = (6, 8, 10)
RAS = np.diag([1.0, 2.0, 3.0, 1.0])
LPS = np.diag([-1.0, -2.0, 3.0, 1.0])


def draw_image() -> np.ndarray:
    return derive_rng(0, "image").integers(1, 900, (*SHAPE, 2)).astype(np.int16)


def draw_labels(*slices: int, label: float = 1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8 if label == int(label) else np.float32)
    labels[1, 2, list(slices)] = label
    return labels


def write(
    root: Path, image=None, labels=None, name="BRATS_001.nii.gz", affine=RAS, labels_affine=None
) -> Path:
    parts = {
        "imagesTr": (image, affine),
        "labelsTr": (labels, affine if labels_affine is None else labels_affine),
    }
    for folder, (voxels, axes) in parts.items():
        (root / folder).mkdir(exist_ok=True)
        if voxels is not None:
            nib.save(nib.Nifti1Image(voxels, axes), root / folder / name)
    return root


def read_one(root: Path, half_width: int = 20):
    (source,) = BRATS.list_sources(root)
    return BRATS.read_source(source, ReadOptions(half_width))


def test_sources_are_the_labelled_volumes_in_order(tmp_path):
    for name in ("BRATS_010.nii.gz", "BRATS_002.nii", "BRATS_001.nii.gz"):
        write(tmp_path, draw_image(), draw_labels(4), name)
    sources = BRATS.list_sources(tmp_path)
    assert [source.name for source in sources] == ["BRATS_001", "BRATS_002", "BRATS_010"]
    assert [source.patient for source in sources] == ["BRATS_001", "BRATS_002", "BRATS_010"]
    assert sources[1].image.name == sources[1].masks[0].name == "BRATS_002.nii"


def test_junk_in_the_folders_is_ignored(tmp_path):
    write(tmp_path, draw_image(), draw_labels(4))
    (tmp_path / "dataset.json").write_text("{}")
    for folder in ("imagesTr", "labelsTr"):
        for name in ("._BRATS_001.nii.gz", "._BRATS_002.nii.gz", ".DS_Store", "notes.txt"):
            (tmp_path / folder / name).write_bytes(b"junk")
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "BRATS_700.nii.gz").write_bytes(b"unlabelled")
    assert [source.name for source in BRATS.list_sources(tmp_path)] == ["BRATS_001"]


def test_a_folder_of_another_layout_has_no_sources(tmp_path):
    (tmp_path / "benign").mkdir()
    assert BRATS.list_sources(tmp_path) == []


def test_the_first_channel_is_read_and_turned_by_ninety_degrees(tmp_path):
    image = draw_image()
    (case,) = read_one(write(tmp_path, image, draw_labels(4)))
    assert case.image.shape == (8, 6)
    np.testing.assert_array_equal(case.image, np.rot90(image[:, :, 4, 0]))
    assert np.argwhere(case.mask).tolist() == [[5, 1]], "row 7 - y, column x"
    assert case.mask.dtype == np.uint8
    assert case.spacing_mm == (2.0, 1.0)


def test_cases_are_named_after_volume_and_slice(tmp_path):
    cases = read_one(write(tmp_path, draw_image(), draw_labels(4, 6)))
    assert [(case.case, case.patient, case.slice_index) for case in cases] == [
        ("BRATS_001/z004", "BRATS_001", 4),
        ("BRATS_001/z006", "BRATS_001", 6),
    ]


def test_intensities_are_scaled_to_the_95th_percentile_of_the_complete_volume(tmp_path):
    image = draw_image()
    (case,) = read_one(write(tmp_path, image, draw_labels(4)))
    assert case.low == 0.0
    assert case.high == pytest.approx(np.percentile(image[..., 0], 95))
    assert case.max_value == 4095


def test_axes_in_the_file_do_not_change_the_cases(tmp_path):
    image, labels = draw_image(), draw_labels(2, 5)
    (tmp_path / "ras").mkdir()
    (tmp_path / "lps").mkdir()
    ras = read_one(write(tmp_path / "ras", image, labels))
    lps = read_one(write(tmp_path / "lps", image[::-1, ::-1], labels[::-1, ::-1], affine=LPS))
    assert len(ras) == len(lps) == 2
    for one, other in zip(ras, lps, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
        assert one.spacing_mm == other.spacing_mm


@pytest.mark.parametrize("label", [1, 2, 3, 4])
def test_every_label_above_zero_is_tumour(label, tmp_path):
    (case,) = read_one(write(tmp_path, draw_image(), draw_labels(4, label=label)))
    assert np.unique(case.mask).tolist() == [0, 1]


def test_the_half_width_is_counted_in_slices_from_the_mean(tmp_path):
    cases = read_one(write(tmp_path, draw_image(), draw_labels(*range(1, 10))), half_width=2)
    assert [case.slice_index for case in cases] == [3, 4, 5, 6, 7]


def test_a_volume_without_tumour_is_skipped(tmp_path):
    with pytest.raises(SkippedCase, match="the mask is empty"):
        read_one(write(tmp_path, draw_image(), draw_labels()))


def test_tumours_far_from_their_mean_are_not_called_empty(tmp_path):
    with pytest.raises(SkippedCase, match="no slice within 2 of the tumour's mean index"):
        read_one(write(tmp_path, draw_image(), draw_labels(0, 9)), half_width=2)


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"image": None}, r"^BRATS_001\.nii\.gz: there is no such file"),
        ({"labels": None}, r"^BRATS_001\.nii\.gz: there is no such file"),
        ({"labels": draw_labels(4, label=7)}, r"contains the labels \[7\], expected only \[0, 1, 2, 3, 4\]"),
        ({"labels": draw_labels(4, label=0.5)}, r"the mask is soft: its values go from 0 to 0\.5"),
        ({"labels": draw_labels(4)[:5]}, r"the mask is \(5, 8, 10\), its image \(6, 8, 10\)"),
        ({"labels_affine": LPS}, "the mask's axes are LPS, its image's RAS"),
        ({"image": draw_image() * np.float32("nan")}, "not finite"),
        ({"image": np.zeros(SHAPE, np.int16)}, "95th intensity percentile is 0, expected above 0"),
    ],
)
def test_a_volume_that_cannot_be_trusted_is_rejected_by_name(parts, found, tmp_path):
    write(tmp_path, **{"image": draw_image(), "labels": draw_labels(4), **parts})
    with pytest.raises(BadCase, match=found) as error:
        read_one(tmp_path)
    assert "BRATS_001" in str(error.value)
    assert isinstance(error.value, FlamesError)


def test_iterating_passes_over_volumes_without_tumour(tmp_path):
    write(tmp_path, draw_image(), draw_labels(), "BRATS_001.nii.gz")
    write(tmp_path, draw_image(), draw_labels(4), "BRATS_002.nii.gz")
    assert [case.patient for case in iter_raw_cases(BRATS, tmp_path)] == ["BRATS_002"]


def test_the_real_download_lists_as_its_index_says():
    root = find_shared("data/Task01_BrainTumour")
    index = json.loads((root / "dataset.json").read_text())
    listed = [source.image.name for source in BRATS.list_sources(root)]
    assert listed == sorted(Path(entry["image"]).name for entry in index["training"])


@pytest.mark.parametrize("name", ["BRATS_001", "BRATS_007", "BRATS_013"])
def test_real_volumes_become_what_the_authors_code_makes_of_them(name):
    golden = np.load(find_shared("golden/msd_preprocess.npz"))
    sources = {source.name: source for source in BRATS.list_sources(find_shared("data/Task01_BrainTumour"))}
    cases = {case.slice_index: case for case in BRATS.read_source(sources[name], ReadOptions())}
    assert list(cases) == golden[f"{name}_slices"].tolist()
    compared = [key for key in golden if key.startswith(f"{name}_z") and key.endswith("_img")]
    for key in compared:
        case = cases[int(key.split("_z")[1].split("_")[0])]
        assert case.high == pytest.approx(float(golden[f"{name}_p95"]), rel=1e-4)
        image, mask = to_square(scale(case.image, case.low, case.high), case.mask, 240, "paper")
        np.testing.assert_allclose(quantise(image, 4095) / 4095, golden[key], atol=1 / 4095)
        np.testing.assert_array_equal(mask, golden[key.replace("_img", "_mask")])
    assert len(compared) == 3
