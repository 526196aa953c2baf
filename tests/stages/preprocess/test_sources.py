"""Copies that only a complete manifest shows: across organs and modalities, in volumes, under earlier
names."""

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.stages.preprocess.stage import preprocess
from tests.support.datasets import reveal_cases, reveal_report

COLUMNS = ("image", "mask", "patient_id", "modality", "organ")
SIDE = 20


def draw(number, *shape):
    return derive_rng(0, "gathering", number).integers(1, 255, shape or (SIDE, SIDE)).astype(np.uint8)


def save_still(folder, name, pixels):
    mask = np.zeros(pixels.shape, np.uint8)
    mask[4:12, 4:12] = 1
    Image.fromarray(pixels).save(folder / f"{name}.png")
    Image.fromarray(mask).save(folder / f"{name}_mask.png")


def stills(folder, rows):
    """Write a manifest of still images with (name, patient, modality, organ, number of its picture) rows."""
    for name, *_, number in rows:
        save_still(folder, name, draw(number))
    listed = [(f"{name}.png", f"{name}_mask.png", *about) for name, *about, _ in rows]
    return write(folder, listed)


def write(folder, rows):
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder


def run(folder, **options):
    options = {"size": SIDE, "name": "own", "workspace": folder / "made", **options}
    return preprocess(PreprocessConfig(raw={"manifest": folder}, **options), "manifest")


def files_in(folder):
    """Return the files, without locks and the cache."""
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and "cache" not in path.parts
    )


def made(folder, dataset):
    return folder / "made" / "preprocessed" / f"{dataset}.h5"


def split_units_of(folder, dataset):
    """Return {patient: (split unit, set)} under the names of the raw data."""
    return {
        case.patient: (case.split_unit, name)
        for name, cases in reveal_cases(made(folder, dataset)).items()
        for case in cases
    }


def test_patients_who_share_an_image_listed_for_two_organs_are_in_one_set(tmp_path):
    rows = [(f"a{n}", f"a{n}", "CT", "liver", n) for n in range(8)]
    rows += [(f"b{n}", f"b{n}", "CT", "lung", n) for n in range(8)]
    reports = run(stills(tmp_path, rows))
    liver, lung = (split_units_of(tmp_path, report["dataset"]) for report in reports)
    assert len(liver) == len(lung) == 8, "each organ keeps its own mask of the image"
    assert all(liver[f"a{n}"] == lung[f"b{n}"] for n in range(8))


def test_patients_whose_images_are_saved_again_in_another_modality_are_in_one_set(tmp_path):
    coarse = Image.fromarray(draw(99, 8, 8) // 2 + 60)
    smooth = np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))
    stills(tmp_path, rows := [(f"a{n}", f"a{n}", "US", "breast", n) for n in range(6)])
    rows += [("one", "one", "US", "breast", 0), ("two", "two", "PET", "breast", 0)]
    rows += [(f"b{n}", f"b{n}", "PET", "breast", 10 + n) for n in range(6)]
    stills(tmp_path, rows)
    save_still(tmp_path, "one", smooth)
    save_still(tmp_path, "two", smooth + 3)
    run(tmp_path)
    assert split_units_of(tmp_path, "own-us")["one"] == split_units_of(tmp_path, "own-pet")["two"]


def test_a_group_of_near_copies_above_a_tenth_of_the_images_is_reported_with_its_set(tmp_path):
    rows = [(f"a{n:02d}", f"a{n:02d}", "US", "breast", n) for n in range(20)]
    stills(tmp_path, rows)
    coarse = Image.fromarray(draw(99, 8, 8) // 2 + 60).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    for n in range(3):
        save_still(tmp_path, f"a{n:02d}", np.asarray(coarse) + np.uint8(4 * n))
    (report,) = run(tmp_path)
    ((unit, owner),) = {split_units_of(tmp_path, "own")[f"a{n:02d}"] for n in range(3)}
    assert unit == "a00"
    assert report["large_groups"] == [{"patients": 3, "images": 3, "set": owner}]


def test_patients_who_share_a_volume_under_masks_of_other_slices_are_in_one_set(tmp_path):
    rows = []
    for number in range(8):
        # The last is the first one's volume again, with the mask one slice higher.
        voxels = draw(number % 7, 16, 16, 8)
        mask = np.zeros(voxels.shape, np.uint8)
        mask[4:12, 4:12, 2 + number // 7 : 6 + number // 7] = 1
        for name, content in ((f"{number}.nii", voxels), (f"m{number}.nii", mask)):
            nib.save(nib.Nifti1Image(content, np.eye(4)), tmp_path / name)
        rows.append((f"{number}.nii", f"m{number}.nii", f"p{number}", "MRI", "brain"))
    (report,) = run(write(tmp_path, rows))
    told = reveal_report(made(tmp_path, "own"), report)
    assert told["near_copies_kept_together"] == [["p0", "p7"]]
    assert told["copies_left_out"] == []


def test_a_list_of_duplicates_names_a_manifests_images_too(tmp_path):
    stills(tmp_path, [(f"a{n}", f"a{n}", "US", "breast", n) for n in range(6)])
    listed = tmp_path / "list.csv"
    listed.write_text("Filename\n{a1.png&a3.png}\n")
    (report,) = run(tmp_path, duplicate_list=listed)
    told = reveal_report(made(tmp_path, "own"), report)
    assert told["copies_left_out"] == [{"name": "a3.png", "same_as": "a1.png"}]


def test_a_list_of_duplicates_that_names_no_image_is_rejected(tmp_path):
    stills(tmp_path, [(f"a{n}", f"a{n}", "US", "breast", n) for n in range(6)])
    listed = tmp_path / "list.csv"
    listed.write_text("Filename\n{benign (1).png&benign (2).png}\n")
    with pytest.raises(FlamesError, match=r"names benign \(1\) and others, none of which .*\(a0.png, …\)"):
        run(tmp_path, duplicate_list=listed)


def test_a_manifest_that_gains_a_modality_leaves_no_patient_twice_in_the_workspace(tmp_path):
    rows = [(f"a{n}", f"a{n}", "US", "breast", n) for n in range(6)]
    run(stills(tmp_path, rows))
    stills(tmp_path, rows + [(f"b{n}", f"a{n}", "CT", "breast", 10 + n) for n in range(6)])
    with pytest.raises(
        FlamesError, match=r"own.h5 also belongs to own, .*--overwrite to replace it, or another"
    ):
        run(tmp_path)
    assert files_in(tmp_path / "made") == ["own.csv", "own.h5", "own.json", "salt"]
    run(tmp_path, overwrite=True)
    names = ["own-ct.csv", "own-ct.h5", "own-ct.json", "own-us.csv", "own-us.h5", "own-us.json", "salt"]
    assert files_in(tmp_path / "made") == names
