"""Volumes and 16-bit images whose window loses tissue or lesion, as users find them."""

import csv

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from flames_cli.config import CheckConfig
from flames_cli.core.rng import derive_rng
from flames_cli.stages.check.stage import check
from tests.support.cases import check_manifest
from tests.support.phantoms.stills import draw_lits_slices

SHAPE = (32, 32, 3)
BODY, SMALL, LESION = np.s_[4:28, 4:28, :], np.s_[11:21, 11:21, :], np.s_[12:18, 12:18, :]


def body(number, tissue, lesion, sd, background=0.0):
    """Return a volume with a body, a lesion in it, and background around it."""
    noise = derive_rng(0, "clipping", number).normal(0, sd, SHAPE)
    volume = np.full(SHAPE, float(background))
    volume[BODY] = tissue + noise[BODY]
    volume[LESION] = lesion + noise[LESION]
    return volume


def write(folder, volumes, modality, site=lambda _: "A", name="manifest.csv"):
    """Write a manifest of volumes, or of stills for arrays of two axes."""
    rows = [("image", "mask", "patient_id", "modality", "organ", "site")]
    folder.mkdir(parents=True, exist_ok=True)
    for number, volume in enumerate(volumes):
        mask = np.zeros(SHAPE, np.uint8)
        mask[LESION] = 1
        suffix = ".nii" if volume.ndim == 3 else ".png"
        names = [f"{modality}-{what}{number}{suffix}" for what in ("i", "m")]
        for file, content in zip(names, (volume, mask), strict=True):
            if volume.ndim == 3:
                nib.save(nib.Nifti1Image(content, np.diag([1.0, 1.0, 3.0, 1.0])), folder / file)
            else:
                Image.fromarray(content if content.ndim == 2 else content[..., 0]).save(folder / file)
        rows.append((*names, f"P{number}", modality, "organ", site(number)))
    with (folder / name).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / name


def run(manifest, workspace, **options):
    return check_manifest(manifest, workspace, size=32, **options)


def hot(number):
    """Return a PET of a cold body whose lesion is five times as hot."""
    return body(number, 1.5, 8.0, 0.3).astype(np.float32)


def small_head(number):
    """Return an MRI whose background is nine tenths of the volume."""
    head = np.zeros(SHAPE)
    head[SMALL] = body(number, 500, 700, 80).clip(1)[SMALL]
    return head.astype(np.int16)


def test_a_hot_lesion_that_becomes_white_is_a_problem_with_a_window(tmp_path):
    manifest = write(tmp_path, [hot(number) for number in range(4)], "PET")
    found = run(manifest, tmp_path)
    assert found.codes["clipped"] == "problem"
    text = found.text_of("clipped")
    assert "PET organ A: " in text
    assert "100% of the lesion white" in text
    assert "--window PET=0," in text
    assert run(manifest, tmp_path, window={"PET": (0.0, 10.0)}).report["passed"]


def test_a_window_that_blackens_tissue_is_a_problem(tmp_path):
    volumes = [body(number, 0, 0.5, 1).astype(np.float32) for number in range(4)]
    found = run(write(tmp_path, volumes, "MRI"), tmp_path, window={"MRI": (0.0, 3.0)})
    assert found.codes["clipped"] == "problem"
    assert "of the tissue is black" in found.text_of("clipped")
    assert "pass --window MRI=-3,3" in found.text_of("clipped")


@pytest.mark.parametrize("percentile_of", ["all", "foreground"])
def test_a_lesion_outside_cts_window_is_a_problem_with_a_wider_window(percentile_of, tmp_path):
    volumes = [body(number, 40, -600, 20, -1000).astype(np.int16) for number in range(4)]
    manifest = write(tmp_path, volumes, "CT lung")
    found = run(manifest, tmp_path, percentile_of=percentile_of)
    assert found.codes["clipped"] == "problem"
    assert found.codes["ct-window"] == "note"
    assert 'pass --window "CT lung=-800,400"' in found.text_of("clipped")
    assert run(manifest, tmp_path, window={"CT": (-800.0, 400.0)}).report["passed"]


def test_air_outside_the_window_of_ct_and_white_bone_are_no_problem(tmp_path):
    volumes = [body(number, 40, 80, 20, -1000) for number in range(4)]
    for volume in volumes:
        volume[5:9, 5:27] = 900  # a tenth of the body
    found = run(write(tmp_path, [volume.astype(np.int16) for volume in volumes], "CT"), tmp_path)
    assert found.codes == {}


def test_one_volume_of_many_is_a_note(tmp_path):
    ordinary = [body(number, 500, 450, 80).clip(0).astype(np.int16) for number in range(1, 5)]
    found = run(write(tmp_path, [small_head(0), *ordinary], "MRI"), tmp_path)
    assert found.codes == {"clipped": "note"}
    assert "MRI-i0.nii" in found.text_of("clipped")
    assert "MRI-i1.nii" not in found.text_of("clipped")


def test_one_site_of_two_is_a_problem_of_that_site(tmp_path):
    volumes = [small_head(number) for number in range(3)]
    volumes += [body(number, 500, 450, 80).clip(0).astype(np.int16) for number in range(3, 9)]
    manifest = write(tmp_path, volumes, "MRI", lambda number: "A" if number < 3 else "B")
    found = run(manifest, tmp_path)
    assert found.codes["clipped"] == "problem"
    (finding,) = [one for one in found.report["findings"] if one["code"] == "clipped"]
    assert [place["id"] for place in finding["where"]] == ["clipped:A=MRI=organ"]


def test_the_foreground_helps_where_the_background_is_large(tmp_path):
    manifest = write(tmp_path, [small_head(number) for number in range(4)], "MRI")
    found = run(manifest, tmp_path)
    assert found.codes["clipped"] == "problem"
    assert "--percentile-of foreground or --percentile 99.5 or --window MRI=0," in found.text_of("clipped")
    assert run(manifest, tmp_path, percentile=99.5).report["passed"]


def test_images_that_are_faint_since_the_window_is_too_wide_are_a_problem_with_a_window(tmp_path):
    stills = [(32768 + body(number, 40, 0, 20)[..., 0]).astype(np.uint16) for number in range(4)]
    found = run(write(tmp_path, stills, "XR"), tmp_path)
    assert found.codes == {"faint-image": "problem"}
    assert "pass --window XR=327" in found.text_of("faint-image")
    assert "replace" not in found.text_of("faint-image")


def test_eight_bits_are_not_scaled_and_so_never_clipped(tmp_path):
    stills = [np.clip(body(number, 250, 300, 10)[..., 0], 0, 255).astype(np.uint8) for number in range(4)]
    assert run(write(tmp_path, stills, "US"), tmp_path).codes == {}


def test_white_images_are_in_one_finding_only(tmp_path):
    volumes = [body(number, 500, 450, 80, 300).astype(np.int16) for number in range(4)]
    found = run(write(tmp_path, volumes, "MRI"), tmp_path, window={"MRI": (0.0, 100.0)})
    assert found.codes == {"clipped": "problem"}


def test_eight_bit_images_and_volumes_of_one_modality_are_a_note_within_and_between_data_sets(tmp_path):
    volumes = [body(number, 40, 80, 20, -1000).astype(np.int16) for number in range(4)]
    stills = [np.clip(body(number, 90, 140, 20)[..., 0], 0, 255).astype(np.uint8) for number in range(4)]
    scans = write(tmp_path / "scans", volumes, "CT-CE")
    slices = write(tmp_path / "slices", stills, "CT")
    both = tmp_path / "both.csv"
    lines = [f"scans/{line}" for line in scans.read_text().splitlines()[1:]]
    lines += [f"slices/{line}" for line in slices.read_text().splitlines()[1:]]
    lines = [line.replace(",CT-m", f",{line.split('/')[0]}/CT-m").replace("P", line[1], 1) for line in lines]
    lines = [line.replace(",CT-CE-m", ",scans/CT-CE-m") for line in lines]
    both.write_text("\n".join([scans.read_text().splitlines()[0], *lines]))
    found = run(both, tmp_path)
    assert found.codes["other-scaling"] == "note"
    assert "CT, case: 4 8-bit images, 4 volumes or 16-bit images" in found.text_of("other-scaling")
    assert "other-scaling" not in run(scans, tmp_path).codes


def test_lits_slices_and_volumes_of_ct_are_a_note_of_both(tmp_path):
    raw = draw_lits_slices(tmp_path, 4, 0)
    volumes = [body(number, 40, 80, 20, -1000).astype(np.int16) for number in range(4)]
    scans = write(tmp_path / "scans", volumes, "CT")
    config = CheckConfig(
        workspace=tmp_path,
        size=64,
        datasets=("lits-slices", "manifest"),
        raw={"lits-slices": raw, "manifest": scans},
    )
    for report in check(config):
        (finding,) = [one for one in report["findings"] if one["code"] == "other-scaling"]
        assert [place["id"] for place in finding["where"]] == [
            "other-scaling:CT=lits-slices",
            "other-scaling:CT=scans",
        ]


@pytest.mark.parametrize("modality", ["PT", "PET-CT"])
def test_lesions_are_judged_without_the_images_that_have_none(modality, tmp_path):
    manifest = write(tmp_path, [hot(number) for number in range(7)], modality)
    for number in range(4):  # most of the patients are healthy
        empty = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([1.0, 1.0, 3.0, 1.0]))
        nib.save(empty, tmp_path / f"{modality}-m{number}.nii")
    found = run(manifest, tmp_path, empty="keep", slices="all")
    assert found.codes["clipped"] == "problem"
    assert "100% of the lesion white or black (median of 7 volumes" in found.text_of("clipped")


def test_a_brain_without_skull_of_which_the_tumour_is_white_is_a_problem(tmp_path):
    def stripped(number):
        """Return a brain of a sixth of the volume, with a tumour half as bright again."""
        volume = np.zeros(SHAPE)
        brain = np.s_[8:21, 8:21, :]
        volume[brain] = body(number, 300, 450, 60).clip(1)[brain]
        return volume.astype(np.int16)

    found = run(write(tmp_path, [stripped(number) for number in range(4)], "MRI"), tmp_path)
    assert found.codes == {"clipped": "problem"}
    assert "--percentile-of foreground" in found.text_of("clipped")


def test_stills_of_sixteen_bits_that_are_mostly_background_are_refused_with_every_remedy(tmp_path):
    stills = [np.pad(small_head(number)[..., 0], 0).astype(np.uint16) for number in range(4)]
    for still in stills:
        still[:, :14] = still[:, 18:] = 0
    manifest = write(tmp_path, stills, "MG")
    text = run(manifest, tmp_path).text_of("unreadable")
    for way in ("--percentile-of foreground", "a higher --percentile", "--window MG=0,"):
        assert way in text
    assert "unreadable" not in run(manifest, tmp_path, percentile_of="foreground").codes
