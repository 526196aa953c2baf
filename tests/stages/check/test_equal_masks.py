"""Masks that were copied from one patient to another, under another name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.rng import derive_rng
from flames_cli.stages.check.equal_masks import FEWEST_PX
from tests.support.cases import check_manifest


def draw(
    folder: Path, patients: int, side: int, *, shared: bool, same_patient: bool = False, boxes: bool = False
) -> Path:
    """Write stills with lesions of `side` pixels; if `shared`, the last mask is a copy of the first."""
    rows = ["image,mask,patient_id,modality,organ"]
    for number in range(patients):
        rng = derive_rng(number, "equal masks")
        Image.fromarray(rng.integers(0, 256, (64, 64)).astype(np.uint8)).save(folder / f"i{number}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[10 + 3 * number : 10 + 3 * number + side, 20 : 20 + side] = 255
        if not boxes:
            mask[10 + 3 * number, 20] = 0
        Image.fromarray(mask).save(folder / f"m{number}.png")
        patient = "p0" if same_patient else f"p{number}"
        rows.append(f"i{number}.png,m{number}.png,{patient},US,breast")
    if shared:
        shutil.copy(folder / "m0.png", folder / f"m{patients - 1}.png")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder / "manifest.csv"


def test_a_copy_of_a_mask_for_another_patient_is_a_problem(tmp_path):
    checked = check_manifest(draw(tmp_path, 4, 12, shared=True), tmp_path, size=64)
    assert checked.codes["copies-of-masks"] == "problem"
    assert "i0.png = i3.png" in checked.text_of("copies-of-masks")
    assert not checked.report["passed"]


@pytest.mark.parametrize("choices", [{"shared": False}, {"shared": True, "same_patient": True}])
def test_masks_of_their_own_and_of_one_patient_are_none(choices, tmp_path):
    checked = check_manifest(draw(tmp_path, 4, 12, **choices), tmp_path, size=64)
    assert "copies-of-masks" not in checked.codes


def test_boxes_may_be_equal_by_chance(tmp_path):
    checked = check_manifest(draw(tmp_path, 4, 12, shared=True, boxes=True), tmp_path, size=64)
    assert "copies-of-masks" not in checked.codes


def test_masks_of_a_few_pixels_may_be_equal_by_chance(tmp_path):
    side = int(FEWEST_PX**0.5)
    checked = check_manifest(draw(tmp_path, 4, side, shared=True), tmp_path, size=64)
    assert "copies-of-masks" not in checked.codes


def test_a_copy_of_image_and_mask_is_a_copy_of_the_image(tmp_path):
    manifest = draw(tmp_path, 4, 12, shared=True)
    shutil.copy(tmp_path / "i0.png", tmp_path / "i3.png")
    checked = check_manifest(manifest, tmp_path, size=64)
    assert "copies-of-masks" not in checked.codes
    assert checked.codes["copies-across-patients"] == "problem"
