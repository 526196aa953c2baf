"""Masks that are not what they seem: the shared cases, and relatives of them that are drawn here."""

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from tests.support.cases import Checked, check_manifest, find_manifest, preprocess_manifest

RED_SHARE = 219 / 6400
"""Share of the image that is a red polyp in the shared case of colours."""
PATIENTS = 5
SIDE = 80
VOLUME = (48, 44, 7)

Draw = Callable[[Path, int], None]
"""Function that writes the mask of a patient to a path."""


def shares(checked: Checked) -> dict[str, float]:
    return checked.report["groups"][0]["lesions"]["share"]


def assert_refused(manifest: Path, workspace: Path, words: str, **options: object) -> None:
    """Check that `check` reports every mask as unreadable with `words`, and that `preprocess` stops."""
    checked = check_manifest(manifest, workspace, **options)
    assert checked.codes["unreadable"] == "problem"
    assert not checked.report["passed"]
    assert words in checked.text_of("unreadable")
    assert words in preprocess_manifest(manifest, workspace, **options).error
    assert not list(workspace.glob("preprocessed/*.h5"))


def draw_volumes(folder: Path, draw: Draw, labels: tuple[str, ...] = ()) -> Path:
    """Write a manifest of CT volumes of noise whose masks `draw` writes; return its path."""
    rows = [("image", "mask", "patient_id", "modality", "organ", *(("labels",) if labels else ()))]
    for index in range(PATIENTS):
        noise = derive_rng(0, "volume", index).normal(40, 20, VOLUME).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / f"i{index}.nii.gz")
        draw(folder / f"m{index}.nii.gz", index)
        rows.append((f"i{index}.nii.gz", f"m{index}.nii.gz", f"P{index}", "CT", "liver", *labels[index:][:1]))
    return write_rows(folder, rows)


def draw_stills(folder: Path, draw: Draw, suffix: str = "png") -> Path:
    """Write a manifest of ultrasound images of noise whose masks `draw` writes; return its path."""
    rows = [("image", "mask", "patient_id", "modality", "organ")]
    for index in range(PATIENTS):
        noise = derive_rng(0, "still", index).integers(20, 200, (SIDE, SIDE)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"i{index}.png")
        draw(folder / f"m{index}.{suffix}", index)
        rows.append((f"i{index}.png", f"m{index}.{suffix}", f"P{index}", "US", "ovary"))
    return write_rows(folder, rows)


def write_rows(folder: Path, rows: list[tuple[str, ...]]) -> Path:
    with (folder / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / "manifest.csv"


def box(value: float, dtype: type | str = np.uint8, margin: int = 6, organ: float = 0) -> np.ndarray:
    """Return a volume of a tumour in slices 2 to 4, inside an organ that is 4 voxels wider."""
    voxels = np.zeros(VOLUME)
    voxels[12 - margin : 24 + margin, 12 - margin : 22 + margin, 1:6] = organ
    voxels[12:24, 12:22, 2:5] = value
    return voxels.astype(dtype)


TUMOUR_SHARE = 120 / (VOLUME[0] * VOLUME[1])


def save(voxels: np.ndarray) -> Draw:
    return lambda path, _: nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def assert_tumour(manifest: Path, workspace: Path, share: float, **options: object) -> Checked:
    """Check that every mask has the share of tumour, and that `preprocess` goes through."""
    checked = check_manifest(manifest, workspace, **options)
    assert shares(checked)["p50"] == pytest.approx(share, abs=1e-4)
    assert preprocess_manifest(manifest, workspace, **options).error == ""
    return checked


@pytest.mark.parametrize(("case", "above_half"), [("soft-mask-png", 219), ("soft-mask-probability-png", 169)])
def test_a_soft_mask_is_refused_by_name_and_half_of_full_scale_decides(case, above_half, tmp_path):
    assert_refused(find_manifest(case), tmp_path, "the mask is soft")
    checked = assert_tumour(find_manifest(case), tmp_path, above_half / SIDE**2, mask_threshold="HALF")
    assert checked.report["options"]["mask_threshold"] == "half"


def test_a_red_polyp_in_a_coloured_jpeg_does_not_vanish(tmp_path):
    manifest = find_manifest("colour-jpeg-mask")
    assert_refused(manifest, tmp_path, "the mask is soft")
    checked = check_manifest(manifest, tmp_path, mask_threshold="half")
    assert checked.report["counts"]["usable"] == checked.report["counts"]["sources"] == 6
    assert shares(checked)["min"] == pytest.approx(RED_SHARE, rel=0.05)


@pytest.mark.parametrize("case", ["grey-mask-trns", "palette-mask-in-alpha"])
def test_a_mask_whose_transparency_is_a_value_is_refused(case, tmp_path):
    assert_refused(find_manifest(case), tmp_path, "it is transparent in parts")


def test_a_mask_of_several_channels_is_refused(tmp_path):
    assert_refused(find_manifest("mask-4d-channels"), tmp_path, "the mask has 2 channels")


def test_a_mask_below_0_is_refused(tmp_path):
    assert_refused(find_manifest("mask-int8-minus-one"), tmp_path, "values below 0, down to -1")


def test_one_channel_along_a_fourth_axis_is_a_mask(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(1)[..., None]))
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_organ_and_tumour_are_told_apart_by_the_labels(dtype, tmp_path):
    manifest = draw_volumes(tmp_path, save(box(2, dtype, organ=1)))
    assert_refused(manifest, tmp_path, "2 labels, 1 (")
    checked = assert_tumour(manifest, tmp_path, TUMOUR_SHARE, labels="2")
    assert checked.report["options"]["labels"] == ["2"]


def test_the_column_labels_may_be_filled_in_some_rows_only(tmp_path):
    labels = ("2", "", "2;3", "", "")

    def draw(path: Path, index: int) -> None:
        save(box(2, organ=1) if labels[index] else box(1))(path, index)

    manifest = draw_volumes(tmp_path, draw, labels)
    checked = check_manifest(manifest, tmp_path)
    assert checked.codes["absent-labels"] == "problem"
    assert "no mask has the label 3" in checked.text_of("absent-labels")
    assert shares(checked)["max"] == pytest.approx(TUMOUR_SHARE)
    assert "no mask has the label 3" in preprocess_manifest(manifest, tmp_path).error


def test_a_label_that_exists_in_no_mask_is_a_problem(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(2, organ=1)))
    assert check_manifest(manifest, tmp_path, labels="7").codes["absent-labels"] == "problem"
    assert "no mask has the label 7" in preprocess_manifest(manifest, tmp_path, labels="7").error


def test_a_mask_without_the_chosen_label_is_an_empty_one(tmp_path):
    manifest = draw_volumes(tmp_path, lambda path, i: save(box(2 if i else 1, organ=1))(path, i))
    checked = check_manifest(manifest, tmp_path, labels="2")
    assert "unreadable" not in checked.codes
    assert checked.report["counts"]["usable"] == PATIENTS - 1


@pytest.mark.parametrize("scale", [1, 255])
def test_probabilities_and_interpolated_volumes_need_a_threshold(scale, tmp_path):
    ramp = box(1, "f4", margin=2, organ=0.4) * np.float32(0.99 * scale)
    manifest = draw_volumes(tmp_path, save(ramp))
    assert_refused(manifest, tmp_path, "the mask is soft")
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE, mask_threshold="half")


def test_a_threshold_of_another_scale_is_no_empty_mask(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(1)))
    assert_refused(manifest, tmp_path, "below --mask-threshold 128", mask_threshold="128")
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE, mask_threshold="0.5")


def test_labels_that_were_rounded_are_still_labels(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(0.9999, "f4")))
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE)


def test_labels_of_0_and_1_in_a_jpeg_are_refused_with_and_without_a_threshold(tmp_path):
    def draw(path: Path, index: int) -> None:
        Image.fromarray(box(1)[:, :, 3].repeat(2, 0)[:SIDE, : SIDE // 2].repeat(2, 1)).save(path, quality=95)

    manifest = draw_stills(tmp_path, draw, "jpg")
    for options in ({}, {"mask_threshold": "half"}, {"labels": "1"}):
        assert_refused(manifest, tmp_path, "in a JPEG", **options)


def test_labels_and_a_threshold_exclude_each_other(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(1)))
    assert "pass one" in check_manifest(manifest, tmp_path, labels="1", mask_threshold="half").error


def test_patients_without_tumour_are_not_all_that_skip_bad_leaves(tmp_path):
    manifest = draw_volumes(tmp_path, lambda path, i: save(box(2 if i else 1, organ=1))(path, i))
    error = preprocess_manifest(manifest, tmp_path, skip_bad=True).error
    assert "2 labels" in error
    assert "Choose the labels of tumour" in error


def test_masks_of_one_label_each_need_the_same_or_a_choice(tmp_path):
    manifest = draw_volumes(tmp_path, lambda path, i: save(box(2 if i else 1))(path, i))
    checked = check_manifest(manifest, tmp_path)
    assert checked.codes["differing-labels"] == "problem"
    assert "--labels 1,2" in checked.text_of("differing-labels")
    assert "the masks have different labels, 1, 2" in preprocess_manifest(manifest, tmp_path).error
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE, labels="1,2")


def test_full_scale_may_be_1_in_some_masks_and_255_in_others(tmp_path):
    manifest = draw_volumes(tmp_path, lambda path, i: save(box(255 if i else 1))(path, i))
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE)


def test_a_label_that_a_spreadsheet_wrote_as_a_float_is_a_label(tmp_path):
    manifest = draw_volumes(tmp_path, save(box(2, organ=1)), ("2.0",) * PATIENTS)
    assert_tumour(manifest, tmp_path, TUMOUR_SHARE)


def test_a_row_whose_labels_name_the_background_is_an_error(tmp_path):
    def draw(path: Path, index: int) -> None:
        mask = np.zeros(VOLUME, np.uint8)
        mask[10 + index : 16 + index, 10:16, 2:5] = 2
        nib.save(nib.Nifti1Image(mask, np.eye(4)), path)

    manifest = draw_volumes(tmp_path, draw, ("2", "0", "2", "2", "2"))
    assert "row 3: labels contains 0, the background" in check_manifest(manifest, tmp_path / "w").error
