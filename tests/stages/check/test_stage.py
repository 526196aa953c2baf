"""Every finding is caused once; valid data pass; the report and its page have the right content."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.config import CheckConfig
from flames_cli.core.rng import derive_rng
from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.stages.check.stage import check
from flames_cli.store.schema import CHECK, check_stamp
from tests.support.datasets import find_shared
from tests.support.html_page import read_page
from tests.support.raw_cases import count_listed

SIDE = 64


def run(folder: Path, *datasets: str, raw: dict[str, Path], **options):
    """Return the reports, by data set."""
    options = {"size": 32, "workers": 2, **options}
    reports = check(CheckConfig(workspace=folder / "made", datasets=datasets, raw=raw, **options))
    return {report["dataset"]: report for report in reports}


def codes(report, severity=None):
    return [one["code"] for one in report["findings"] if severity in (None, one["severity"])]


def finding(report, code):
    (found,) = [one for one in report["findings"] if one["code"] == code]
    assert found["count"] == len(found["where"])
    return found


def texts(report, code):
    return [place["text"] for place in finding(report, code)["where"]]


def noise(name, low=60, high=180):
    return derive_rng(0, "check", name).integers(low, high, (SIDE, SIDE)).astype(np.uint8)


def disc(radius=12, x=32, y=32):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


@pytest.fixture
def stills(tmp_path):
    """Return stills({name: {image, mask, patient, site, split}}), which makes ultrasound with a manifest."""

    def write(rows, folder="own"):
        root = tmp_path / folder
        root.mkdir()
        columns = {"image", "mask", "patient_id", "modality", "organ"}
        columns |= {key for row in rows.values() for key in row if key in ("site", "split")}
        with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, sorted(columns))
            writer.writeheader()
            for index, (name, row) in enumerate(rows.items()):
                # Numbered images are of different patients, whose masks differ.
                own_disc = disc(x=20 + index % 24, y=20 + index // 24) if name[-1].isdigit() else disc()
                Image.fromarray(row.get("image", noise(name))).save(root / f"{name}.png", quality=60)
                Image.fromarray(row.get("mask", own_disc) * np.uint8(255)).save(root / f"{name}_m.png")
                told = {key: row[key] for key in ("site", "split") if key in row}
                line = {
                    "image": f"{name}.png",
                    "mask": f"{name}_m.png",
                    "patient_id": row.get("patient", name),
                }
                writer.writerow({**line, "modality": "US", "organ": "skin", **told})
        return root

    return write


@pytest.fixture
def checked(stills, tmp_path):
    """Return checked({name: row}), which reports on three valid patients and those rows."""

    def report_on(rows, **options):
        ever = {
            key: rows[next(iter(rows))][key] for key in ("site", "split") if key in next(iter(rows.values()))
        }
        root = stills({**{f"sound-{n}": dict(ever) for n in range(3)}, **rows})
        return run(tmp_path, "manifest", raw={"manifest": root}, **options)["own"]

    return report_on


def plain(name, site="A"):
    return {"image": noise(name), "site": site}


@pytest.mark.parametrize("dataset", READERS)
def test_sound_data_pass(dataset, phantom_raw, tmp_path):
    (report,) = run(tmp_path, dataset, raw=phantom_raw).values()
    # As in the real data set, BUSI has a copy across classes.
    assert codes(report, "problem") == (["copies-across-classes"] if dataset == "busi" else [])
    assert report["passed"] == (dataset != "busi")
    counts = report["counts"]
    assert counts["sources"] == count_listed(dataset, phantom_raw[dataset])
    assert counts["usable"] + counts["left_out"] + counts["bad"] == counts["sources"]
    whole = [row for row in report["groups"] if row["site"] is None]
    assert sum(row["images"] for row in whole) == counts["images"]
    for row in report["groups"]:
        assert sum(row["lesions"]["histogram"]["counts"]) == row["lesions"]["images"] <= row["images"]


def test_the_report_that_is_returned_is_written_and_stamped(phantom_raw, tmp_path):
    report = run(tmp_path, "otu2d", raw=phantom_raw)["otu2d"]
    path = tmp_path / "made" / "check" / "otu2d.json"
    written = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert written == report
    check_stamp(written, CHECK, path)
    assert (path.parent / report["page"]).is_file()
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_the_same_data_give_the_same_bytes_whatever_the_threads(phantom_raw, tmp_path):
    for workers in (1, 3):
        run(tmp_path / str(workers), "busi", "brats", raw=phantom_raw, workers=workers)
    for name in ("busi.html", "busi.json", "brats.html", "brats.json"):
        one, other = [(tmp_path / n / "made" / "check" / name).read_bytes() for n in "13"]
        assert one == other


def test_everything_that_a_reader_rejects_is_reported(raw_copy, tmp_path):
    raw = raw_copy("otu2d")
    (raw / "images" / "2.JPG").write_bytes(b"")
    (raw / "annotations" / "3_binary.PNG").unlink()
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(raw / "annotations" / "4_binary.PNG")
    report = run(tmp_path, "otu2d", raw={"otu2d": raw})["otu2d"]
    told = texts(report, "unreadable")
    assert [text.split(":")[0] for text in told] == ["2.JPG", "3.JPG", "4_binary.PNG"]
    assert "--skip-bad" in finding(report, "unreadable")["fix"]
    assert not report["passed"]
    assert report["counts"]["bad"] == 3


def test_files_with_the_same_name_are_reported_with_their_folders(tmp_path, phantom_raw):
    raw = shutil.copytree(phantom_raw["manifest"], tmp_path / "own")
    with (raw / "manifest.csv").open(encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    (raw / row["mask"]).unlink()
    (report,) = run(tmp_path, "manifest", raw={"manifest": raw}).values()
    assert texts(report, "unreadable") == [f"{row['image']}: {Path(row['mask']).name}: there is no such file"]


def test_windows_are_named_in_any_case_and_for_existing_modalities(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match="--window names the modality XR, expected CT or MRI"):
        run(tmp_path, "manifest", raw=phantom_raw, window={"XR": (0, 9)})
    (report,) = run(tmp_path, "manifest", raw=phantom_raw, window={"ct": (-160, -150)}).values()
    (ct,) = [row for row in report["groups"] if row["modality"] == "CT" and row["site"] is None]
    assert ct["intensity"]["p99"] == -150


def test_folders_of_unknown_data_sets_are_rejected(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match="data set 'bsi' is not known"):
        run(tmp_path, "busi", raw={**phantom_raw, "bsi": tmp_path})


def test_a_volume_that_is_cut_short_is_a_problem(raw_copy, tmp_path):
    raw = raw_copy("brats")
    path = raw / "imagesTr" / "BRATS_002.nii.gz"
    path.write_bytes(path.read_bytes()[:5000])
    (told,) = texts(run(tmp_path, "brats", raw={"brats": raw})["brats"], "unreadable")
    assert told.startswith("BRATS_002.nii.gz: ")


def test_data_without_one_usable_image_still_have_a_report(raw_copy, tmp_path):
    raw = raw_copy("otu2d")
    for path in (raw / "images").iterdir():
        path.write_bytes(b"")
    report = run(tmp_path, "otu2d", raw={"otu2d": raw})["otu2d"]
    assert codes(report, "problem") == ["unreadable", "few-patients"]
    assert report["groups"] == []
    assert "no usable data" in (tmp_path / "made" / "check" / "otu2d.html").read_text(encoding="utf-8")


def test_empty_masks_and_parts_of_a_download_are_notes(phantom_raw, tmp_path):
    report = run(tmp_path, "otu2d", raw=phantom_raw)["otu2d"]
    assert texts(report, "empty-mask") == ["8.JPG"]
    assert finding(report, "other-count")["what"] == "16 images with a mask; the complete download has 1,469"
    assert report["counts"]["left_out"] == 1


FLAT = {
    "black-image": (np.zeros((SIDE, SIDE), np.uint8), "problem"),
    "constant-image": (np.full((SIDE, SIDE), 90, np.uint8), "problem"),
    "faint-image": (noise("faint", 90, 92), "note"),
}


@pytest.mark.parametrize("code", FLAT)
def test_images_that_show_nothing_are_reported(code, checked):
    image, severity = FLAT[code]
    report = checked({"odd": {"image": image}})
    assert codes(report) == [code]
    assert finding(report, code)["severity"] == severity
    assert finding(report, code)["where"][0]["cases"] == ["odd.png"]


MASKS = {
    "full-mask": (1 - disc(3), "odd.png: 99.3%", "problem"),
    "tiny-lesion": (disc(2), "odd.png: 4 px", "note"),
    "vanishing-lesion": (disc(0, x=30, y=30), "odd.png: 1 px of 64×64", "note"),
}


@pytest.mark.parametrize("code", MASKS)
def test_implausible_masks_are_reported(code, checked):
    mask, text, severity = MASKS[code]
    report = checked({"odd": {"mask": mask}})
    assert codes(report) == [code]
    assert finding(report, code)["severity"] == severity
    assert texts(report, code) == [text]


def test_blank_slices_count_only_if_they_contain_a_lesion(tmp_path, raw_copy):
    import nibabel as nib

    raw = raw_copy("brats")
    image, labels = (raw / folder / "BRATS_001.nii.gz" for folder in ("imagesTr", "labelsTr"))
    mask = np.asanyarray(nib.load(labels).dataobj) > 0
    bearing = np.flatnonzero(mask.any(axis=(0, 1)))
    volume = nib.load(image)
    voxels = np.asanyarray(volume.dataobj).copy()
    voxels[:, :, [bearing[0], bearing[-1] + 1]] = 0
    nib.save(nib.Nifti1Image(voxels, volume.affine), image)
    report = run(tmp_path, "brats", raw={"brats": raw}, slices="all")["brats"]
    assert texts(report, "black-image") == [f"BRATS_001/z{bearing[0]:03d}"]


COPIES = {
    "copies-across-patients": ({}, "a.png = b.png (a and b, equal pixel for pixel, Dice of the masks 1.00)"),
    "copies-across-sites": ({"site": "B", "patient": "a2"}, "(A and B, equal pixel for pixel, Dice"),
    "copies-across-sets": ({"split": "server"}, "(client_train and server_test, equal pixel for pixel, Dice"),
    "copies-with-other-masks": (
        {"mask": disc(6)},
        "(two patients, equal pixel for pixel, Dice of the masks 0.4",
    ),
}


@pytest.mark.parametrize("code", COPIES)
def test_copies_that_contradict_each_other_are_problems(code, checked):
    changes, text = COPIES[code]
    first = {"image": noise("twice"), "site": "A", "split": "train"}
    kept = {key: first[key] for key in ("image", *changes) if key in first}
    report = checked({"a": kept, "b": {**kept, **changes}})
    assert finding(report, code)["severity"] == "problem"
    (told,) = texts(report, code)
    assert text in told
    assert finding(report, code)["where"][0]["cases"] == ["a.png", "b.png"]


def test_copies_of_one_patient_are_a_note(checked):
    report = checked(
        {"a": {"image": noise("twice"), "patient": "p"}, "b": {"image": noise("twice"), "patient": "p"}}
    )
    assert codes(report) == ["copies"]
    assert report["passed"]


def test_a_picture_saved_again_is_found_and_another_is_not(stills, tmp_path):
    root = stills({f"sound-{n}": {} for n in range(4)})
    Image.open(root / "sound-1.png").resize((50, 50)).save(root / "sound-2.png")
    Image.fromarray(disc(9, 16, 16)[:50, :50] * np.uint8(255)).save(root / "sound-2_m.png")
    report = run(tmp_path, "manifest", raw={"manifest": root})["own"]
    assert codes(report) == ["copies-across-patients"]
    assert texts(report, "copies-across-patients")[0].startswith(
        "sound-1.png ≈ sound-2.png (sound-1 and sound-2"
    )


def test_copies_across_data_sets_that_are_checked_together_are_reported_in_both(raw_copy, tmp_path):
    raw = {name: raw_copy(name) for name in ("busi", "otu2d")}
    Image.open(raw["busi"] / "malignant" / "malignant (1).png").save(
        raw["otu2d"] / "images" / "99.JPG", quality=90
    )
    Image.open(raw["busi"] / "malignant" / "malignant (1)_mask.png").save(
        raw["otu2d"] / "annotations" / "99_binary.PNG"
    )
    reports = run(tmp_path, "busi", "otu2d", raw=raw)
    for name, told in (
        (
            "busi",
            r"malignant \(1\) ≈ otu2d: 99\.JPG \(busi and otu2d, \d+ of 256 bits apart, Dice .* 1\.00\)",
        ),
        ("otu2d", r"busi: malignant \(1\) ≈ 99\.JPG \(busi and otu2d, .*\)"),
    ):
        (text,) = texts(reports[name], "copies-across-data-sets")
        assert re.fullmatch(told, text)
        page = (tmp_path / "made" / "check" / f"{name}.html").read_text(encoding="utf-8")
        shown = page.split("in two data sets")[1].split("</section>")[0]
        assert shown.count("data:image/png") == 2
    alone = run(tmp_path / "alone", "otu2d", raw=raw)["otu2d"]
    assert alone["passed"]


def test_volumes_that_share_slices_are_copies_even_with_other_masks(raw_copy, tmp_path):
    import nibabel as nib

    raw = raw_copy("brats")
    for folder in ("imagesTr", "labelsTr"):
        path = raw / folder / "BRATS_001.nii.gz"
        (raw / folder / "BRATS_777.nii.gz").write_bytes(path.read_bytes())
    path = raw / "labelsTr" / "BRATS_777.nii.gz"
    labels = nib.load(path)
    changed = np.asanyarray(labels.dataobj).copy()
    changed[:, : changed.shape[1] // 2] = 0
    nib.save(nib.Nifti1Image(changed, labels.affine), path)
    report = run(tmp_path, "brats", raw={"brats": raw}, size=48)["brats"]
    (text,) = texts(report, "copies-across-patients")
    assert text.startswith("BRATS_001 = BRATS_777 (")


def test_a_patient_at_two_sites_is_a_problem(checked):
    report = checked({name: {"site": site, "patient": "p"} for name, site in zip("ab", "AB", strict=True)})
    assert texts(report, "patient-in-two-sites") == ["p: A, B"]
    assert codes(report) == ["patient-in-two-sites"]


def test_too_few_patients_are_a_problem(stills, tmp_path):
    report = run(tmp_path, "manifest", raw={"manifest": stills({"a": {}, "b": {}})})["own"]
    assert finding(report, "few-patients")["what"].startswith("2 usable patients, too few")


def test_a_bright_image_among_dark_ones_is_a_note(checked):
    rows = {f"n{n}": plain(f"n{n}") for n in range(12)}
    report = checked({**rows, "bright": {"image": noise("bright", 200, 250), "site": "A"}})
    assert codes(report) == ["intensity-outlier"]
    (text,) = texts(report, "intensity-outlier")
    assert re.fullmatch(r"bright\.png: mean 0\.88 of the window, the median 0\.47 \(z \+\d+\.\d\)", text)


def test_a_bright_site_among_dark_ones_is_a_note(checked):
    rows = {f"{site}{n}": plain(f"{site}{n}", site) for site in "ABD" for n in range(8)}
    bright = {f"C{n}": {"image": noise(f"C{n}", 150, 250), "site": "C"} for n in range(12)}
    report = checked({**rows, **bright})
    assert codes(report) == ["site-apart"]
    assert [text.split(":")[0] for text in texts(report, "site-apart")] == ["C"]
    assert [row["site"] for row in report["groups"]] == [None, "A", "B", "C", "D"]


def test_images_and_volumes_of_one_kind_are_a_problem(stills, tmp_path):
    import nibabel as nib

    root = stills({"a": {}, "b": {}, "c": {}})
    for name, dtype in (("v", np.int16), ("v_m", np.uint8)):
        voxels = np.stack([disc()] * 3, axis=2).astype(dtype)
        voxels[0, 0] = 1
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), root / f"{name}.nii.gz")
    table = root / "manifest.csv"
    order = table.read_text(encoding="utf-8").splitlines()[0].split(",")
    row = {"image": "v.nii.gz", "mask": "v_m.nii.gz", "patient_id": "v", "modality": "US", "organ": "skin"}
    with table.open("a", encoding="utf-8") as file:
        file.write(",".join(row[key] for key in order) + "\n")
    report = run(tmp_path, "manifest", raw={"manifest": root})["own"]
    assert [text.split(":")[0] for text in texts(report, "mixed-depths")] == [
        "1 channel(s) of 0..255",
        "1 channel(s) of 0..4095",
    ]
    assert report["source"] == "file"


def test_figures_are_those_of_the_images(stills, tmp_path):
    image = np.full((SIDE, SIDE), 100, np.uint8)
    image[:, :16] = 20
    lesions = disc(4, 12, 12) | disc(4, 50, 50)
    rows = {f"s{n}": {"image": np.rot90(image, n), "mask": lesions} for n in range(3)}
    (row,) = run(tmp_path, "manifest", raw={"manifest": stills(rows)})["own"]["groups"]
    assert row["intensity"] == pytest.approx({"mean": 80, "sd": 1200**0.5, "p1": 20, "p50": 100, "p99": 100})
    assert row["lesions"]["share"]["p50"] == pytest.approx(2 * disc(4, 12, 12).sum() / SIDE**2)
    assert row["lesions"]["per_image"] == {"2": 3}
    assert row["shapes"] == {"64×64": 3}
    assert row["spacing_mm"] is None


def test_spacing_is_reported_along_rows_columns_and_slices(phantom_raw, tmp_path):
    (row,) = run(tmp_path, "brats", raw=phantom_raw)["brats"]["groups"]
    assert len(row["spacing_mm"]["median"]) == 3
    assert row["spacing_mm"]["min"] == row["spacing_mm"]["median"] == row["spacing_mm"]["max"]


def test_the_page_needs_nothing_else_and_runs_nothing(phantom_raw, tmp_path):
    run(tmp_path, "busi", "polypgen", raw=phantom_raw)
    for name in ("busi", "polypgen"):
        page = read_page(tmp_path / "made" / "check" / f"{name}.html")
        assert page.tags & {"script", "link", "iframe", "object", "img"} == set()
        assert page.sources
        assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert {"C1", "C3"} <= set(page.words)


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"'><script>alert(1)<!--",
    "&ltb&gt",
    "[bold]\u202egnp.exe",
    "</svg></style><h1>",
)


def test_hostile_names_stay_text(stills, tmp_path):
    try:
        # A manifest accepts such a name of a file, but not such an id.
        row = {"image": noise("twice")}
        root = stills(
            {name.replace("/", "∕"): {**row, "patient": name.replace("\u202e", "")} for name in HOSTILE}
        )
    except OSError:
        pytest.skip("this file system does not take such names")
    report = run(tmp_path, "manifest", raw={"manifest": root})["own"]
    page = read_page(tmp_path / "made" / "check" / "own.html")
    assert page.tags & {"script", "img", "b"} == set()
    words = "".join(page.words)
    assert "<img src=x onerror=alert(1)>.png" in words
    assert "&ltb&gt.png" in words
    assert "\u202e" not in words + json.dumps(report, ensure_ascii=False)
    assert "[bold]\\u202egnp.exe.png" in words
    shown = words.split("Samples")[1]
    assert "[bold]" in shown


def test_long_lists_are_cut_on_the_page_and_complete_in_the_report(checked, tmp_path):
    report = checked({f"odd-{n:02d}": {"image": np.zeros((SIDE, SIDE), np.uint8)} for n in range(20)})
    assert finding(report, "black-image")["count"] == 20
    page = (tmp_path / "made" / "check" / "own.html").read_text(encoding="utf-8")
    assert "and 8 more: see the JSON file" in page


def test_nothing_is_written_where_a_data_set_is_missing(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match=r"no folder .*gone"):
        run(tmp_path, "busi", "otu2d", raw={"busi": phantom_raw["busi"], "otu2d": tmp_path / "gone"})
    assert not (tmp_path / "made").exists()


def test_two_data_sets_of_one_name_are_rejected(stills, phantom_raw, tmp_path):
    raw = {"busi": phantom_raw["busi"], "manifest": stills({"a": {}}, "busi")}
    with pytest.raises(FlamesError, match=r"two data sets are called busi; .* --name"):
        run(tmp_path, "busi", "manifest", raw=raw)


def test_options_that_do_not_apply_are_rejected(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match="otu2d has no colour images"):
        run(tmp_path, "otu2d", raw=phantom_raw, channels="rgb")


def test_the_copy_in_the_real_breast_set_is_found(tmp_path):
    report = run(tmp_path, "busi", raw={"busi": find_shared("data/busi")}, size=96)["busi"]
    (text,) = texts(report, "copies-across-classes")
    assert text.startswith("benign (433) = malignant (145) (benign and malignant, equal pixel for pixel")
    assert len(texts(report, "copies")) >= 4
