"""Still images that are slices of a volume in another data set, or of another patient, are found."""

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import CheckConfig
from flames_cli.core.rng import derive_rng
from flames_cli.readers import READERS
from flames_cli.readers.base import ReadOptions
from flames_cli.stages.check.stage import check

COLUMNS = ("image", "mask", "patient_id", "modality", "organ")
SIDE = 64


def write_manifest(folder, rows):
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])


def save_still(folder, name, pixels, mask, patient, modality="MRI"):
    """Save a slice as other programs do: 8 bits, brightened, turned, with more air, and enlarged."""
    shown = np.clip(pixels / pixels.max() * 290, 0, 255).astype(np.uint8)
    for part, picture in (("", shown), ("_m", mask.astype(np.uint8) * 255)):
        turned = Image.fromarray(np.pad(np.rot90(picture), ((3, 5), (4, 0))))
        turned.resize((2 * turned.width, 2 * turned.height), Image.Resampling.NEAREST).save(
            folder / f"{name}{part}.png"
        )
    return (f"{name}.png", f"{name}_m.png", patient, modality, "brain")


def smooth(name, *shape):
    coarse = derive_rng(0, "slices", name).random(shape) * 900 + 100
    return np.kron(coarse, np.ones((SIDE // shape[0], SIDE // shape[1], 2)))


def run(folder, *datasets, **raw):
    reports = check(CheckConfig(workspace=folder / "made", datasets=datasets, raw=raw, size=32))
    return {report["reader"]: report for report in reports}


def found_in(report):
    return {one["code"]: one for one in report["findings"] if one["code"].startswith("slices-")}


@pytest.fixture
def mixed(tmp_path):
    """Return a folder with a volume of 8 slices of patient v, and a function that adds stills."""
    voxels = smooth("v", 8, 8, 4)
    mask = np.zeros(voxels.shape, np.uint8)
    mask[20:40, 20:40, 2:6] = 1
    for name, content in (("v.nii", voxels.astype(np.int16)), ("v_m.nii", mask)):
        nib.save(nib.Nifti1Image(content, np.eye(4)), tmp_path / name)
    rows = [("v.nii", "v_m.nii", "v", "MRI", "brain")]
    rows += [
        save_still(tmp_path, f"other-{n}", smooth(n, 8, 8, 1)[..., 0], mask[..., 3], f"other-{n}")
        for n in range(3)
    ]

    def add(patient, index, modality="MRI"):
        rows.append(
            save_still(tmp_path, f"{patient}-{index}", voxels[..., index], mask[..., 3], patient, modality)
        )
        write_manifest(tmp_path, rows)
        return run(tmp_path, "manifest", manifest=tmp_path)["manifest"]

    return add


def test_a_still_of_another_patient_that_is_a_slice_of_a_volume_is_a_problem(mixed):
    finding = found_in(mixed("again", 3))["slices-across-patients"]
    assert finding["severity"] == "problem"
    (place,) = finding["where"]
    assert place["cases"] == ["again-3.png", "v.nii"]
    assert "of 256 bits apart, 1 image of the patient" in place["text"]
    assert place["id"].startswith("slices-across-patients:")


def test_a_still_of_the_same_patient_is_expected(mixed):
    report = mixed("v", 3)
    assert found_in(report) == {}
    assert any("4 still images of MRI with 4 slices of volumes" in line for line in report["compared"])


def test_another_modality_is_not_compared(mixed):
    report = mixed("again", 3, modality="CT")
    assert found_in(report) == {}


def test_ct_of_any_name_is_compared(tmp_path):
    voxels = smooth("v", 8, 8, 4) / 3 - 100
    voxels[0, 0] = -1000
    mask = np.zeros(voxels.shape, np.uint8)
    mask[20:40, 20:40, 2:6] = 1
    for name, content in (("v.nii", voxels.astype(np.int16)), ("v_m.nii", mask)):
        nib.save(nib.Nifti1Image(content, np.eye(4)), tmp_path / name)
    shown = np.clip((voxels[..., 3] + 160) / 400 * 255, 0, 255).astype(np.uint8)
    Image.fromarray(np.rot90(shown)).save(tmp_path / "again.png")
    Image.fromarray(np.rot90(mask[..., 3]) * np.uint8(255)).save(tmp_path / "again_m.png")
    rows = [("v.nii", "v_m.nii", "v", "ct portal", "liver")]
    rows += [("again.png", "again_m.png", "again", "CT-CE", "liver")]
    write_manifest(tmp_path, rows)
    report = run(tmp_path, "manifest", manifest=tmp_path)["manifest"]
    assert found_in(report)["slices-across-patients"]["severity"] == "problem"
    assert any("1 still image of CT with 4 slices" in line for line in report["compared"])


def test_stills_of_one_data_set_are_found_in_the_volumes_of_another(phantom_raw, tmp_path):
    reader = READERS["brats"]
    source = reader.list_sources(phantom_raw["brats"])[0]
    cases = [case for case in reader.read_source(source, ReadOptions()) if case.mask.any()]
    rows = [
        save_still(tmp_path, f"s{n}", np.clip(case.image, 0, case.high), case.mask, "someone")
        for n, case in enumerate(cases[:2])
    ]
    write_manifest(tmp_path, rows)
    raw = {"manifest": tmp_path, "brats": phantom_raw["brats"]}
    reports = run(tmp_path, "manifest", "brats", **raw)
    places = [found_in(one)["slices-across-data-sets"]["where"] for one in reports.values()]
    assert len(places[0]) == len(places[1]) == 1
    assert places[0][0]["id"] == places[1][0]["id"]
    assert source.name in places[0][0]["id"]
    compared = " ".join(reports["brats"]["compared"])
    assert "2 still images of MRI with " in compared
    assert "in 8 orientations" in compared
