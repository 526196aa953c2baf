import io
import json
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flames_cli.config import PreprocessConfig
from flames_cli.core.imaging.geometry import to_square
from flames_cli.core.imaging.intensity import quantise, scale
from flames_cli.core.imaging.lesions import measure_lesions
from flames_cli.core.imaging.small_lesion_rule import SmallLesionRule
from flames_cli.core.splits import SETS
from flames_cli.demo_data.layouts import draw_brats, draw_otu2d
from flames_cli.errors import FlamesError
from flames_cli.readers import READERS
from flames_cli.readers.base import RawCase, ReadOptions, SkippedCase
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.cases import read_set
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.h5 import open_checked, read_preprocessed_cases
from flames_cli.store.schema import PREPROCESSED
from flames_cli.store.volumes import find_volumes
from tests.support.datasets import find_shared, reveal_cases, reveal_report
from tests.support.raw_cases import count_listed

DRAWN = [name for name in SETS if name != "client_val"]
"""The sets that a split makes."""

ONE_KIND = [name for name, reader in READERS.items() if reader.modality]
"""The readers of one modality and organ: all but manifests."""


def run(folder: Path, dataset: str, raw: Path, **options):
    """Preprocess into folder/workspace and return the report."""
    options = {"size": 32, "raw": {dataset: raw}, **options}
    (report,) = preprocess(PreprocessConfig(workspace=folder / "workspace", **options), dataset)
    return report


def output(folder: Path, dataset: str) -> Path:
    return folder / "workspace" / "preprocessed" / f"{dataset}.h5"


def all_cases_of(folder: Path, dataset: str):
    """Return {set: cases} of what `run` wrote, under the names of the raw data."""
    return reveal_cases(output(folder, dataset))


def cases_of(folder: Path, dataset: str):
    """Return {set: selected cases}, as `all_cases_of`."""
    sets = all_cases_of(folder, dataset)
    return {name: [case for case in cases if case.selected] for name, cases in sets.items()}


def patients_of(folder: Path, dataset: str) -> dict[str, set[str]]:
    """Return {set: patients}, as `cases_of`."""
    return {name: {case.patient for case in cases} for name, cases in cases_of(folder, dataset).items()}


def left_out(folder: Path, report: dict) -> dict:
    """Return what a report says was left out, under the names of the raw data."""
    return reveal_report(output(folder, report["dataset"]), report)


def raw_cases(dataset: str, root: Path) -> dict[str, RawCase]:
    """Return every valid case by its source's name, and that of its slice."""
    reader = READERS[dataset]
    found = {}
    for source in reader.list_sources(root):
        with suppress(SkippedCase):
            cases = reader.read_source(source, ReadOptions())
            found |= {case.case if case.place else source.name: case for case in cases}
    return found


def files_in(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and "cache" not in path.parts
    )


@pytest.fixture(scope="module")
def preprocessed(phantom_raw, salt_file, tmp_path_factory):
    """preprocessed(dataset): the folder of its phantoms, preprocessed with `salt_file`, and the report: for
    reading only."""
    folder = tmp_path_factory.mktemp("preprocessed")

    @cache
    def get(dataset):
        return folder / dataset, run(folder / dataset, dataset, phantom_raw[dataset], salt_file=salt_file)

    return get


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_every_valid_case_is_in_one_set(dataset, phantom_raw, preprocessed):
    folder, report = preprocessed(dataset)
    kept = [case.case for cases in cases_of(folder, dataset).values() for case in cases]
    told = left_out(folder, report)
    gone = {entry["name"] for entry in (*told["skipped"], *told["copies_left_out"])}
    assert len(kept) == len(set(kept))
    assert set(kept) == set(raw_cases(dataset, phantom_raw[dataset])) - gone


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_no_patient_is_in_two_sets(dataset, preprocessed):
    folder, _ = preprocessed(dataset)
    sets = patients_of(folder, dataset)
    assert all(sets[name] for name in DRAWN)
    assert len(set.union(*sets.values())) == sum(len(patients) for patients in sets.values())


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_pixels_are_squared_scaled_and_stored_in_their_sources_precision(dataset, phantom_raw, preprocessed):
    folder, _ = preprocessed(dataset)
    raw, names = raw_cases(dataset, phantom_raw[dataset]), cases_of(folder, dataset)
    with open_checked(output(folder, dataset), PREPROCESSED) as file:
        for name in SETS:
            stored = read_set(file[name])
            assert stored.images.dtype == (np.uint8 if READERS[dataset].is_still else np.uint16)
            for info, image, mask in zip(names[name], stored.images, stored.masks, strict=True):
                case = raw[info.case]
                squared, expected = to_square(scale(case.image, case.low, case.high), case.mask, 32)
                difference = image.astype(int) - quantise(squared, case.max_value).astype(int)
                assert np.abs(difference).max() <= 1
                np.testing.assert_array_equal(mask, expected)
                assert info.lesion_px == mask.sum() > 0
                assert info.lesions == measure_lesions(mask)


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_the_report_counts_the_content_of_the_file(dataset, phantom_raw, preprocessed):
    folder, report = preprocessed(dataset)
    path = output(folder, dataset)
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == report
    assert report["sha256"] == hash_file(path)
    assert report["sources"] == count_listed(dataset, phantom_raw[dataset])
    sets = cases_of(folder, dataset)
    assert sets.pop("client_val") == []
    for name, cases in sets.items():
        expected = {"images": len(cases), "patients": len({case.patient for case in cases})}
        if every := [case.volume for case in all_cases_of(folder, dataset)[name] if case.place]:
            expected |= {"volumes": len(set(every)), "slices": len(every)}
        assert report["sets"][name] == expected
    assert files_in(folder) == sorted([f"{dataset}.csv", f"{dataset}.h5", f"{dataset}.json"])


@pytest.mark.parametrize("dataset", [name for name in ONE_KIND if not READERS[name].is_still])
def test_a_volume_keeps_all_its_slices_with_their_masks(dataset, phantom_raw, preprocessed):
    folder, _ = preprocessed(dataset)
    reader, whole = READERS[dataset], {}
    for source in reader.list_sources(phantom_raw[dataset]):
        with suppress(SkippedCase):
            cases = reader.read_source(source, ReadOptions(complete=True))
            whole |= {case.case: case for case in cases}
    names = all_cases_of(folder, dataset)
    with open_checked(output(folder, dataset), PREPROCESSED) as file:
        for name in SETS:
            stored = read_set(file[name], complete=True)
            volumes = find_volumes((dataset, case) for case in names[name])
            assert all(volume.is_complete for volume in volumes)
            assert sorted(index for volume in volumes for index in volume.indices) == [*range(len(stored))]
            for info, image, mask in zip(names[name], stored.images, stored.masks, strict=True):
                case = whole[info.case]
                squared, expected = to_square(scale(case.image, case.low, case.high), case.mask, 32)
                assert np.abs(image.astype(int) - quantise(squared, case.max_value).astype(int)).max() <= 1
                np.testing.assert_array_equal(mask, expected)
                assert info.selected == (case.selected and info.lesion_px > 0)


@pytest.mark.parametrize(("small", "rule"), [({}, "area:100:100"), ({"OTU_2D": "box:12:5"}, "box:12:5")])
def test_small_lesions_are_counted_by_the_reader_s_rule_or_the_user_s(small, rule, phantom_raw, tmp_path):
    report = run(tmp_path, "otu2d", phantom_raw["otu2d"], small=small)
    told = report["small_lesions"]
    assert told["rule"] == rule
    assert report["options"]["small"] == {name.upper(): text for name, text in small.items()}
    info, sets = read_preprocessed_cases(output(tmp_path, "otu2d"))
    assert str(info.small) == rule
    for name, counts in told["sets"].items():
        small_ones = sum(info.small.is_small(32 * 32, case.lesions) for case in sets[name])
        assert counts == {"small": small_ones, "large": len(sets[name]) - small_ones, "none": 0}
    assert set(told["sets"]) == set(report["sets"])
    if small:
        assert sum(counts["small"] for counts in told["sets"].values()) > 0


def test_lesions_are_measured_equally_at_every_size(tmp_path):
    root = find_shared("data/lits-slices")
    small = {}
    for size in (64, 128):
        run(tmp_path / str(size), "lits-slices", root, size=size)
        info, _ = read_preprocessed_cases(output(tmp_path / str(size), "lits-slices"))
        sets = cases_of(tmp_path / str(size), "lits-slices")
        assert info.small == SmallLesionRule("area", 1000, 1000)
        small[size] = {case.case for cases in sets.values() for case in cases if info.judge(case) == "small"}
    assert len(small[128]) == pytest.approx(103, abs=2)  # 103 at 512×512
    assert len(small[64] ^ small[128]) <= 15  # of 302; one stored pixel is 64 raw ones


def test_a_rule_for_an_unknown_data_set_leaves_no_output(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match="--small names 'otu', expected a data set of this command: otu2d"):
        run(tmp_path, "otu2d", phantom_raw["otu2d"], small={"otu": "area:5"})
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(
    dataset, phantom_raw, preprocessed, tmp_path, salt_file
):
    folder, _ = preprocessed(dataset)
    run(tmp_path, dataset, phantom_raw[dataset], workers=4, salt_file=salt_file)
    for suffix in (".h5", ".json"):
        one, other = (hash_file(output(made, dataset).with_suffix(suffix)) for made in (folder, tmp_path))
        assert one == other


@pytest.mark.parametrize("dataset", ONE_KIND)
def test_another_seed_gives_another_split_of_the_same_cases(dataset, phantom_raw, preprocessed, tmp_path):
    folder, _ = preprocessed(dataset)
    run(tmp_path, dataset, phantom_raw[dataset], seed=1)
    one, other = (patients_of(made, dataset) for made in (folder, tmp_path))
    assert one != other
    assert set.union(*one.values()) == set.union(*other.values())


@pytest.mark.parametrize("folder", ["otu2d", "mmotu", "OTU_2d", "otu2d/OTU_2d"])
def test_raw_data_are_looked_for_in_the_workspace_under_any_name(folder, phantom_raw, tmp_path):
    shutil.copytree(phantom_raw["otu2d"], tmp_path / "raw" / folder)
    (report,) = preprocess(PreprocessConfig(workspace=tmp_path, size=32), "OTU_2d")
    assert report["dataset"] == "otu2d"
    assert (tmp_path / "preprocessed" / "otu2d.h5").exists()


def test_progress_counts_up_to_the_number_of_sources(phantom_raw, tmp_path):
    steps: list[tuple[str, int, int]] = []
    config = PreprocessConfig(workspace=tmp_path, size=32, raw=phantom_raw)
    preprocess(config, "busi", lambda *step: steps.append(step))
    assert steps == [("preprocess busi", done, 16) for done in range(1, 17)]


def test_existing_output_is_kept_without_overwrite(phantom_raw, tmp_path):
    run(tmp_path, "busi", phantom_raw["busi"])
    before = hash_file(output(tmp_path, "busi"))
    with pytest.raises(FlamesError, match=r"busi\.h5 exists already; pass --overwrite"):
        run(tmp_path, "busi", phantom_raw["busi"], seed=1)
    assert hash_file(output(tmp_path, "busi")) == before
    run(tmp_path, "busi", phantom_raw["busi"], seed=1, overwrite=True)
    assert hash_file(output(tmp_path, "busi")) != before


def test_an_overwrite_that_fails_leaves_the_older_output(phantom_raw, raw_copy, tmp_path):
    run(tmp_path, "busi", phantom_raw["busi"])
    before = {path.name: hash_file(path) for path in output(tmp_path, "busi").parent.iterdir()}
    damaged = raw_copy("busi")
    (damaged / "benign" / "benign (1).png").write_bytes(b"")
    with pytest.raises(FlamesError, match="1 bad case"):
        run(tmp_path, "busi", damaged, overwrite=True)
    assert {path.name: hash_file(path) for path in output(tmp_path, "busi").parent.iterdir()} == before


@pytest.mark.parametrize(
    ("dataset", "server_test", "images"),
    [
        ("otu2d", 4, 4),
        ("otu2d", 0.5, 8),
        ("otu2d", 0.01, 1),
        ("otu2d", 0, 0),
        ("otu2d", None, 3),
        ("busi", 4, 4),
        ("busi", 0, 0),
    ],
)
def test_the_servers_share_is_a_number_or_a_fraction(dataset, server_test, images, phantom_raw, tmp_path):
    report = run(tmp_path, dataset, phantom_raw[dataset], server_test=server_test)
    assert report["sets"]["server_test"]["images"] == images
    assert report["sets"]["client_train"]["images"] > report["sets"]["client_test"]["images"] > 0


def test_the_servers_images_are_shared_between_the_classes(phantom_raw, tmp_path):
    run(tmp_path, "busi", phantom_raw["busi"], server_test=4)
    strata = [case.stratum for case in cases_of(tmp_path, "busi")["server_test"]]
    assert sorted(strata) == ["benign", "benign", "malignant", "malignant"]


def test_the_servers_slices_come_from_complete_patients(phantom_raw, tmp_path):
    run(tmp_path, "brats", phantom_raw["brats"], server_test=8)
    sets = cases_of(tmp_path, "brats")
    assert 4 <= len(sets["server_test"]) <= 12
    inside = {case.patient for case in sets["server_test"]}
    assert not inside & {case.patient for name in ("client_train", "client_test") for case in sets[name]}


@pytest.mark.parametrize("server_test", [15, 1000])
def test_a_server_share_that_leaves_no_patient_is_rejected(server_test, phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match=rf"asks for {server_test} of 15 otu2d images; leave some"):
        run(tmp_path, "otu2d", phantom_raw["otu2d"], server_test=server_test)
    assert files_in(tmp_path) == []


def test_the_test_fraction_is_of_the_patients_left_by_the_server(phantom_raw, tmp_path):
    report = run(tmp_path, "otu2d", phantom_raw["otu2d"], server_test=5, test_fraction=0.3)
    assert {name: one["patients"] for name, one in report["sets"].items()} == {
        "client_train": 7,
        "client_test": 3,
        "server_test": 5,
    }
    assert run(tmp_path / "none", "otu2d", phantom_raw["otu2d"], test_fraction=0)["sets"]["client_test"] == {
        "images": 0,
        "patients": 0,
    }


def test_too_few_patients_to_split_are_rejected_with_the_fix(tmp_path):
    raw = draw_otu2d(tmp_path, 2, seed=0)
    with pytest.raises(
        FlamesError,
        match=r"2 usable images .*unknown\), too few for client_test; .*pass --server-test 0",
    ):
        run(tmp_path, "otu2d", raw)
    assert run(tmp_path, "otu2d", raw, server_test=0)["sets"]["client_train"]["patients"] == 1


def test_the_half_width_narrows_the_slices(tmp_path):
    raw = draw_brats(tmp_path, 8, seed=1, size=32, slices=24)
    counts = [
        sum(
            one["images"]
            for one in run(tmp_path / str(width), "brats", raw, slice_half_width=width)["sets"].values()
        )
        for width in (1, 2, 20)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_empty_masks_and_lesions_that_vanish_are_reported(tmp_path):
    raw = draw_otu2d(tmp_path, 12, seed=0)
    name = "3_binary.PNG"
    mask = np.zeros_like(np.asarray(Image.open(raw / "annotations" / name)))
    mask[1, 1] = 1
    Image.fromarray(mask).save(raw / "annotations" / name)
    report = run(tmp_path, "otu2d", raw)
    assert left_out(tmp_path, report)["skipped"] == [
        {"name": "3.JPG", "reason": "the lesion vanishes at 32×32"},
        {"name": "8.JPG", "reason": "the mask is empty"},
    ]
    assert report["bad"] == []


def test_the_first_of_exact_copies_is_kept(phantom_raw, tmp_path):
    report = run(tmp_path, "busi", phantom_raw["busi"])
    assert left_out(tmp_path, report)["copies_left_out"] == [
        {"name": "malignant (3)", "same_as": "benign (1)"}
    ]
    patients = set.union(*patients_of(tmp_path, "busi").values())
    assert "benign (1)" in patients
    assert "malignant (3)" not in patients


def save_again(root: Path, original: str, copy: str, brighter: float = 0.0, quality: int = 70) -> None:
    """Add `original` (such as "benign (2)") to a BUSI folder as `copy`, through a lossy file."""
    source, target = root / original.split()[0], root / copy.split()[0]
    pixels = np.asarray(Image.open(source / f"{original}.png").convert("L")).astype(float)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + brighter, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    Image.open(buffer).save(target / f"{copy}.png")
    shutil.copy(source / f"{original}_mask.png", target / f"{copy}_mask.png")


@pytest.mark.parametrize("size", [32, 48, 240])
def test_near_copies_never_straddle_sets(size, raw_copy, tmp_path):
    root = raw_copy("busi")
    save_again(root, "benign (2)", "benign (90)")
    save_again(root, "benign (3)", "malignant (90)", brighter=12)
    save_again(root, "malignant (2)", "malignant (91)", quality=50)
    together = [
        ["benign (10)", "benign (8)"],  # their numbers are near, and the phantoms are alike
        ["benign (2)", "benign (90)"],
        ["benign (3)", "malignant (90)"],
        ["malignant (2)", "malignant (91)"],
    ]
    for seed in range(4):
        report = run(tmp_path / str(seed), "busi", root, seed=seed, size=size)
        assert left_out(tmp_path / str(seed), report)["near_copies_kept_together"] == together
        set_of = {
            name: key for key, names in patients_of(tmp_path / str(seed), "busi").items() for name in names
        }
        assert all(set_of[one] == set_of[other] for one, other in together)


def write_list(folder: Path, *groups: str) -> Path:
    path = folder / "duplicates.csv"
    path.write_text("Filename\n" + "".join(f"{{{group}}}\n" for group in groups))
    return path


def test_listed_duplicates_are_left_out(phantom_raw, tmp_path):
    listed = write_list(tmp_path, "benign (4).png&benign (2).png&benign (400).png", "malignant (1).png")
    report = run(tmp_path, "busi", phantom_raw["busi"], duplicate_list=listed)
    assert left_out(tmp_path, report)["copies_left_out"] == [
        {"name": "benign (4)", "same_as": "benign (2)"},
        {"name": "malignant (3)", "same_as": "benign (1)"},
    ]
    assert "benign (4)" not in set.union(*patients_of(tmp_path, "busi").values())


def test_lists_and_exact_copies_are_followed_from_one_to_the_other(phantom_raw, tmp_path):
    listed = write_list(tmp_path, "benign (1).png&benign (2).png", "benign (2).png&benign (4).png")
    report = run(tmp_path, "busi", phantom_raw["busi"], duplicate_list=listed)
    copies = left_out(tmp_path, report)["copies_left_out"]
    kept = {entry["name"]: entry["same_as"] for entry in copies}
    assert kept == dict.fromkeys(("benign (2)", "benign (4)", "malignant (3)"), "benign (1)")


def test_two_images_that_a_later_one_links_are_copies_too(phantom_raw, tmp_path):
    listed = write_list(tmp_path, "benign (2).png&benign (5).png", "benign (4).png&benign (5).png")
    report = run(tmp_path, "busi", phantom_raw["busi"], duplicate_list=listed, skip_bad=True)
    copies = left_out(tmp_path, report)["copies_left_out"]
    kept = {entry["name"]: entry["same_as"] for entry in copies}
    assert kept["benign (4)"] == kept["benign (5)"] == "benign (2)"
    assert report["options"]["duplicate_list"] is True
    assert report["options"]["skip_bad"] is True


def test_a_listed_duplicate_of_an_unreadable_image_is_kept(raw_copy, tmp_path):
    root = raw_copy("busi")
    (root / "benign" / "benign (2).png").write_bytes(b"")
    listed = write_list(tmp_path, "benign (2).png&benign (4).png")
    run(tmp_path, "busi", root, duplicate_list=listed, skip_bad=True)
    assert "benign (4)" in set.union(*patients_of(tmp_path, "busi").values())


def test_a_duplicate_list_that_cannot_be_read_leaves_no_output(phantom_raw, tmp_path):
    with pytest.raises(FlamesError, match="check --duplicate-list"):
        run(tmp_path, "busi", phantom_raw["busi"], duplicate_list=tmp_path / "gone.csv")
    assert files_in(tmp_path) == []


def test_known_copies_in_the_real_breast_images_are_found(tmp_path):
    real, root = find_shared("data/busi") / READERS["busi"].folder, tmp_path / "raw"
    copies = {
        "benign (433)",
        "malignant (145)",
        "benign (202)",
        "benign (301)",
        "malignant (110)",
        "malignant (12)",
    }
    for kind in ("benign", "malignant"):
        (root / kind).mkdir(parents=True)
        stems = sorted(path.stem for path in (real / kind).glob("*).png"))
        for stem in {*stems[:8], *copies.intersection(stems)}:
            for path in (real / kind).glob(f"{stem}*"):
                (root / kind / path.name).symlink_to(path)
    for size in (32, 240):
        report = run(tmp_path / str(size), "busi", root, size=size)
        told = left_out(tmp_path / str(size), report)
        assert told["copies_left_out"] == [{"name": "malignant (145)", "same_as": "benign (433)"}]
        near = told["near_copies_kept_together"]
        assert ["benign (202)", "benign (301)"] in near
        assert ["malignant (110)", "malignant (12)"] in near


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "sources"), [("brats", 14), ("busi", 132), ("otu2d", 360)])
def test_the_real_data_preprocess_without_a_bad_case(dataset, sources, real_preprocessed):
    report = json.loads((real_preprocessed / f"{dataset}.json").read_text(encoding="utf-8"))
    assert report["sources"] == sources
    assert report["bad"] == []
    sets = read_preprocessed_cases(real_preprocessed / f"{dataset}.h5")[1]
    for identity in ("patient", "split_unit"):
        names = [{getattr(case, identity) for case in sets[name]} for name in DRAWN]
        assert all(names)
        assert len(set.union(*names)) == sum(map(len, names))


def test_what_a_killed_call_left_is_no_data_set_and_goes(phantom_raw, tmp_path):
    run(tmp_path, "busi", phantom_raw["busi"])
    path = output(tmp_path, "busi")
    whole = path.read_bytes()
    path.with_suffix(".json").unlink()
    path.write_bytes(b"of a call that was killed before its report")
    (path.parent / ".busi.h5.0a1b2c3d.tmp").write_bytes(b"half")
    run(tmp_path, "busi", phantom_raw["busi"])
    assert path.read_bytes() == whole
    assert files_in(tmp_path) == ["busi.csv", "busi.h5", "busi.json", "salt"]
