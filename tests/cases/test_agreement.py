"""Data sets with which preprocess stops: check finds the same faults, and both name what is left out."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from flames_cli.cli.render import print_preprocessed
from flames_cli.core.rng import derive_rng
from tests.support.cases import check_manifest, preprocess_manifest

SIDE = 32
LESION = np.uint8(np.pad(np.full((12, 12), 255), 10))


def write_manifest(folder: Path, masks: list[np.ndarray], **columns: list[str]) -> Path:
    """Write a manifest with an image of noise for each mask; `columns` replaces or adds columns."""
    cells = {
        "image": [f"i{index}.png" for index in range(len(masks))],
        "mask": [f"m{index}.png" for index in range(len(masks))],
        "patient_id": [f"P{index}" for index in range(len(masks))],
        "modality": ["US"] * len(masks),
        "organ": ["breast"] * len(masks),
        **columns,
    }
    for index, mask in enumerate(masks):
        noise = derive_rng(0, "agreement", index).integers(1, 255, (SIDE, SIDE), np.uint8)
        Image.fromarray(noise).save(folder / f"i{index}.png")
        Image.fromarray(mask).save(folder / f"m{index}.png")
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(cells), *zip(*cells.values(), strict=True)])
    return folder / "manifest.csv"


def run_both(manifest: Path, workspace: Path, **options: object):
    options = {"size": SIDE, **options}
    return check_manifest(manifest, workspace, **options), preprocess_manifest(manifest, workspace, **options)


def test_each_modality_and_organ_needs_three_patients(tmp_path):
    manifest = write_manifest(tmp_path, [LESION] * 7, modality=["US"] * 5 + ["MRI"] * 2)
    checked, made = run_both(manifest, tmp_path)
    assert not checked.report["passed"]
    assert "1 of 2 data sets with fewer than 3 patients" in checked.text_of("few-patients")
    assert "MRI breast: 2 usable patients" in checked.text_of("few-patients")
    assert "case-mri has 2 usable patients, too few" in made.error


def test_patients_whose_lesions_vanish_do_not_count(tmp_path):
    dot = np.zeros((SIDE, SIDE), np.uint8)
    dot[1, 1] = 255
    checked, made = run_both(write_manifest(tmp_path, [dot] * 4), tmp_path, size=16)
    assert checked.codes["few-patients"] == "problem"
    assert "the lesion vanishes at 16×16" in made.error


def test_data_sets_of_one_name_are_an_error_of_both(tmp_path):
    manifest = write_manifest(tmp_path, [LESION] * 6, organ=["breast ö"] * 3 + ["breast o"] * 3)
    for made in run_both(manifest, tmp_path):
        assert "would both be called case-us-breast-o" in made.error


def test_a_data_set_without_any_lesion_is_a_problem(tmp_path):
    checked, _ = run_both(write_manifest(tmp_path, [LESION * 0] * 5), tmp_path, empty="keep")
    assert checked.codes["no-lesions"] == "problem"


@pytest.mark.parametrize("fault", ["image", "mask", "empty"])
def test_a_site_of_which_nothing_is_used_is_named(fault, tmp_path):
    soft = derive_rng(0, "soft").integers(0, 255, (SIDE, SIDE), np.uint8)
    masks = [{"image": LESION, "mask": soft, "empty": LESION * 0}[fault]] * 4 + [LESION] * 4
    manifest = write_manifest(tmp_path, masks, site=["Bonn"] * 4 + ["Ulm"] * 4)
    if fault == "image":
        for index in range(4):
            (tmp_path / f"i{index}.png").write_bytes(b"no image")
    checked = check_manifest(manifest, tmp_path, size=SIDE)
    assert "Bonn: all 4 images left out" in checked.text_of("site-left-out")
    made = preprocess_manifest(manifest, tmp_path, size=SIDE, skip_bad=True)
    assert made.report["sites_left_out"] == {"Bonn": 4}
    shown = StringIO()
    print_preprocessed(Console(file=shown, width=200), made.report, tmp_path)
    assert "site Bonn: all 4 cases left out" in shown.getvalue()


def test_a_split_of_the_manifest_without_a_set_is_named_with_its_remedy(tmp_path):
    manifest = write_manifest(tmp_path, [LESION] * 6, split=["train"] * 4 + ["test"] * 2)
    checked = check_manifest(manifest, tmp_path, size=SIDE)
    assert checked.codes["empty-sets"] == "note"
    assert "no usable patient for server_test" in checked.text_of("empty-sets")
    error = preprocess_manifest(manifest, tmp_path, size=SIDE).error
    assert "column split names no patient for server_test; add some, or pass --server-test 0" in error
    assert not preprocess_manifest(manifest, tmp_path, size=SIDE, server_test=0).error


def test_labels_that_nobody_chose_are_not_left_out_as_bad_files(tmp_path):
    several = LESION.copy()
    several[12:15, 12:15] = 1
    error = preprocess_manifest(write_manifest(tmp_path, [several] * 5), tmp_path, size=SIDE).error
    assert "Choose the labels of tumour" in error
    assert "or leave them out with --skip-bad" not in error


def test_a_manifest_without_patients_to_train_on_is_a_problem(tmp_path):
    checked, made = run_both(
        write_manifest(tmp_path, [LESION] * 6, split=["test"] * 3 + ["server"] * 3), tmp_path
    )
    assert checked.codes["empty-sets"] == "problem"
    assert "names no patient for client_train" in made.error


def test_masks_of_other_labels_than_the_chosen_ones_are_not_called_empty(tmp_path):
    masks = [np.where(LESION, np.uint8(1), np.uint8(0)) * (1 if index < 2 else 2) for index in range(8)]
    manifest = write_manifest(tmp_path, masks)
    checked, made = run_both(manifest, tmp_path, labels="2")
    assert "2 images will be left out: the mask contains none of the chosen" in checked.text_of("left-out")
    assert "empty-mask" not in checked.codes
    assert len(made.report["skipped"]) == 2
    kept = check_manifest(manifest, tmp_path, size=SIDE, labels="2", empty="keep")
    assert kept.codes["remark"] == "note"


def test_an_empty_mask_is_empty_whatever_was_chosen(tmp_path):
    masks = [LESION * (index > 0) for index in range(6)]
    checked = check_manifest(write_manifest(tmp_path, masks), tmp_path, size=SIDE, labels="255")
    assert "1 image will be left out: the mask is empty" in checked.text_of("empty-mask")
