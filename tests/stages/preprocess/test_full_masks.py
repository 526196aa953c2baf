"""A mask that covers nearly all of its image stops preprocess, unless the user accepts it."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from tests.support.cases import check_manifest, preprocess_manifest

SIDE = 60
HIGHEST = int(0.9 * SIDE)
"""Rows of a mask that covers exactly as much as is allowed."""


def draw_stills(root: Path, rows: int) -> Path:
    """Write ten images, of which the mask of the last covers `rows` of its rows."""
    lines = []
    for number in range(10):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[: rows if number == 9 else 12] = 255
        Image.fromarray(mask).save(root / f"{number}_mask.png")
        pixels = derive_rng(0, "full", number).integers(0, 255, (SIDE, SIDE)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        lines.append((f"{number}.png", f"{number}_mask.png", f"p{number}", "Endoscopy", "colon"))
    return write(root, lines)


def write(root: Path, lines: list[tuple[str, ...]]) -> Path:
    path = root / "manifest.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("image", "mask", "patient_id", "modality", "organ"), *lines])
    return path


def accept(root: Path, *ids: str) -> Path:
    path = root / "accepted.toml"
    text = "".join(f'[[accept]]\nid = "{one}"\nreason = "a polyp that fills the frame"\n' for one in ids)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_mask_stops_preprocess_with_its_share_and_the_ways_out(tmp_path):
    made = preprocess_manifest(draw_stills(tmp_path, 57), tmp_path / "out")
    assert "9.png: the mask covers 95.0% of the image, expected at most 90%" in made.error
    assert "swapped" in made.error
    assert "--skip-bad" in made.error
    assert "--accept FILE as full-mask:9.png" in made.error


def test_a_mask_at_the_limit_is_used(tmp_path):
    made = preprocess_manifest(draw_stills(tmp_path, HIGHEST), tmp_path / "out")
    assert made.error == ""
    assert made.report["bad"] == []


def test_a_full_mask_is_left_out_with_the_other_bad_cases(tmp_path):
    made = preprocess_manifest(draw_stills(tmp_path, HIGHEST + 1), tmp_path / "out", skip_bad=True)
    assert len(made.report["bad"]) == 1
    assert sum(counts["images"] for counts in made.report["sets"].values()) == 9


def test_an_accepted_full_mask_is_used_by_check_and_by_preprocess(tmp_path):
    manifest, accepted = draw_stills(tmp_path, 60), accept(tmp_path, "full-mask:9.png")
    checked = check_manifest(manifest, tmp_path / "out")
    assert checked.codes["full-mask"] == "problem"
    assert check_manifest(manifest, tmp_path / "out", accept=accepted).codes["full-mask"] == "note"
    made = preprocess_manifest(manifest, tmp_path / "out", accept=accepted)
    assert made.report["bad"] == []
    assert sum(counts["images"] for counts in made.report["sets"].values()) == 10


def test_another_accepted_mask_does_not_help(tmp_path):
    manifest, accepted = draw_stills(tmp_path, 60), accept(tmp_path, "full-mask:8.png")
    assert "the mask covers 100.0%" in preprocess_manifest(manifest, tmp_path / "out", accept=accepted).error


def test_a_file_of_accepted_masks_that_is_wrong_stops_preprocess(tmp_path):
    wrong = tmp_path / "accepted.toml"
    wrong.write_text("accept = 3", encoding="utf-8")
    made = preprocess_manifest(draw_stills(tmp_path, 12), tmp_path / "out", accept=wrong)
    assert "check --accept" in made.error


@pytest.fixture
def volumes(tmp_path):
    lines = []
    for number in range(6):
        mask = np.zeros((20, 20, 4), np.uint8)
        mask[4:9, 4:9, 1:3] = 1
        if number == 5:
            mask[..., 1:3] = 1
        for name, voxels in (
            ("image", derive_rng(0, "v", number).integers(1, 99, mask.shape, np.int16)),
            ("mask", mask),
        ):
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{number}_{name}.nii.gz")
        lines.append((f"{number}_image.nii.gz", f"{number}_mask.nii.gz", f"p{number}", "MRI", "brain"))
    return write(tmp_path, lines)


def test_a_volume_with_full_slices_is_bad_until_all_of_them_are_accepted(volumes, tmp_path):
    ids = [f"full-mask:5_image.nii.gz/z{index:03d}" for index in (1, 2)]
    made = preprocess_manifest(volumes, tmp_path / "out")
    assert "5_image.nii.gz: the mask covers 100.0% of the image in 2 of 2 slices" in made.error
    half = preprocess_manifest(volumes, tmp_path / "out", accept=accept(tmp_path, ids[0]))
    assert "in 1 of 2 slices, expected at most 90%" in half.error
    assert ids[1] in half.error
    assert preprocess_manifest(volumes, tmp_path / "out", accept=accept(tmp_path, *ids)).report["bad"] == []
