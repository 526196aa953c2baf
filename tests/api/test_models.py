"""Models on arrays find what `flames predict` finds in files; records of results are those of the CSVs."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import flames_cli as flames
from flames_cli.readers.formats.images import read_image


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "study"))


@pytest.fixture(scope="module")
def model(study: Path) -> flames.Model:
    return flames.load_model(run="flames", modality="US", device="cpu", workspace=study)


def noise(kind: type, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)


IMAGES = {
    "grey": (noise(np.uint8, (40, 60)), {}),
    "colour": (noise(np.uint8, (50, 30, 3)), {}),
    "deep": (noise(np.uint16, (33, 64)), {"window": (1000.0, 50000.0)}),
    "deep by percentile": (noise(np.uint16, (64, 64)), {"percentile": 90.0}),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_array_gives_the_mask_of_its_file(kind, copy, tmp_path):
    image, rule = IMAGES[kind]
    stored = image if image.ndim == 2 else image[..., ::-1]  # OpenCV writes blue first
    cv2.imwrite(str(tmp_path / "image.png"), stored)
    options = {"run": "flames", "client": "busi", "workspace": copy, "device": "cpu", **rule}
    found = flames.predict(inputs=tmp_path / "image.png", probabilities=True, overlays=False, **options)
    made = flames.load_model(**options).predict(image)
    assert made.mask.shape == made.probabilities.shape == image.shape[:2]
    assert made.mask.any()
    np.testing.assert_array_equal(made.mask, read_image(found.masks["image"]) > 0)
    assert found.cases[0]["max_probability"] == pytest.approx(float(made.probabilities.max()))
    assert (found.failed, found.skipped, found.models) == ({}, 0, ["flames-busi"])


def test_the_records_of_a_prediction_are_the_lines_of_its_table(copy, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "image.png"), noise(np.uint8, (20, 20)))
    (images / "bad.png").write_bytes(b"no image")
    found = flames.predict(inputs=images, run="flames", modality="US", overlays=False, workspace=copy)
    assert {*found.masks, *found.failed} == {"image", "bad"}
    with (found.folder / "cases.csv").open(encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    texts = [{name: "" if cell is None else str(cell) for name, cell in one.items()} for one in found.cases]
    assert texts == lines


def test_a_model_can_be_exported_and_loaded_by_name_folder_and_workspace(copy, model):
    made = flames.export(run="flames", model="US", name="us", workspace=copy)
    again = flames.export(run="flames", model="US", name="us", workspace=copy)
    assert (made.folder, made.notes, again.sha256) == (copy / "models" / "us", [], made.sha256)
    image = noise(np.uint8, (32, 32))
    expected = model.predict(image).probabilities
    study = flames.Workspace(copy)
    assert study.models() == ["us"]
    for loaded in (
        study.model("us"),
        flames.load_model(made.folder),
        flames.load_model("us", workspace=study),
    ):
        np.testing.assert_array_equal(loaded.predict(image).probabilities, expected)
    assert repr(study.model("us")) == "Model('us', US, unet)"


def test_threshold_flips_and_largest_part_change_the_mask(model):
    image = noise(np.uint8, (32, 32))
    plain = model.predict(image)
    middle = float(np.median(plain.probabilities))
    assert 0 < model.predict(image, threshold=middle).mask.sum() < image.size
    flipped = model.predict(image[:, ::-1], tta="flips").probabilities[:, ::-1]
    np.testing.assert_allclose(model.predict(image, tta="flips").probabilities, flipped, atol=1e-5)
    parts, _ = cv2.connectedComponents(model.predict(image, threshold=middle, largest_only=True).mask)
    assert parts == 2  # the background and one part


WRONG = {
    "a volume": (np.zeros((8, 8, 8), np.uint8), "got an array of shape (8, 8, 8), expected rows × columns"),
    "a row": (np.zeros(8, np.uint8), "got an array of shape (8,)"),
    "nothing": (np.zeros((0, 8), np.uint8), "at least one pixel"),
    "flags": (np.zeros((8, 8), bool), "got an array of bool"),
    "colours as real numbers": (np.zeros((8, 8, 3)), "expected uint8 or uint16 in colour"),
    "no number": (np.full((8, 8), np.nan), "got an array with NaN or infinite values"),
    "no rule": (np.full((8, 8), 7.5), "its intensities have no fixed range"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_array_that_is_no_image_is_named(what, model):
    image, expected = WRONG[what]
    with pytest.raises(flames.FlamesError) as caught:
        model.predict(image)
    assert expected in str(caught.value)


def test_wrong_choices_for_a_mask_are_named(model):
    image = np.zeros((8, 8), np.uint8)
    for choice, expected in (({"threshold": 1.0}, "got threshold=1.0"), ({"tta": "all"}, "got tta='all'")):
        with pytest.raises(flames.FlamesError, match=expected):
            model.predict(image, **choice)


def test_the_records_of_an_evaluation_are_the_lines_of_its_tables(study):
    found = flames.open_evaluation("flames", study)
    for name, records in (("cases", found.cases), ("summary-clients", found.tables["summary-clients"])):
        with (found.folder / f"{name}.csv").open(encoding="utf-8") as file:
            reader = csv.DictReader(file)
            assert list(reader.fieldnames or ()) == list(records[0])
            assert sum(1 for _ in reader) == len(records)
    by_client = {score.model: score for score in found.clients}
    own = [case["dice"] for case in found.cases if case["model"] == "busi"]
    assert by_client["busi"].dice == pytest.approx(np.mean(own))
    assert (by_client["busi"].patients, found.volumes, found.notes) == (2, [], [])
    assert str(found).splitlines()[0] == "flames: mean Dice"
    assert f"  {by_client['busi'].dice:.3f}  client busi (US, breast): images 2, patients 2" in str(found)


def test_a_comparison_has_means_and_paired_differences(copy):
    made = flames.compare(runs=["flames", "seeds"], metrics=["dice", "iou"], overlays=False, workspace=copy)
    assert (made.runs, made.metrics) == (["flames", "seeds"], ["dice", "iou"])
    with (made.folder / "differences.csv").open(encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    texts = [
        {name: "" if cell is None else str(cell) for name, cell in one.items()} for one in made.differences
    ]
    assert texts == lines
    assert {line["run"] for line in made.means} == {"flames", "seeds"}
    assert all(line["run"] == "seeds" for line in made.differences)


def test_raw_data_are_checked_and_converted_without_naming_the_data_set(tmp_path):
    raw = flames.make_phantoms(tmp_path / "raw", patients={"busi": 6})
    steps: list[flames.Event] = []
    checked = flames.check(raw=raw, size=32, workspace=tmp_path / "ws", progress=steps.append)
    assert checked.pages[0].is_file()
    assert {one["dataset"] for one in checked.findings} <= {"busi"}
    assert checked.passed == all(one["severity"] == "note" for one in checked.findings)
    made = flames.preprocess(raw=raw, size=32, workspace=tmp_path / "ws", progress=steps.append)
    assert made.datasets[0].file.is_file()
    assert sum(made.datasets[0].images.values()) + len(made.left_out) == checked.counts["busi"]["sources"]
    assert [event.done for event in steps if event.task == "check busi"] == [*range(1, steps[0].total + 1)]
    with pytest.raises(flames.FlamesError, match="overwrite"):
        flames.preprocess(raw=raw, size=32, workspace=tmp_path / "ws")


def test_phantoms_replace_no_files_of_others(tmp_path):
    raw = flames.make_phantoms(tmp_path, patients={"busi": 2})
    assert flames.make_phantoms(tmp_path, patients={"busi": 2}) == raw
    mine = min(raw["busi"].rglob("*.png"))
    mine.write_bytes(b"an image of a patient")
    for patients in (2, 1):
        with pytest.raises(flames.FlamesError, match=r"busi has other files than . phantoms of seed 0"):
            flames.make_phantoms(tmp_path, patients={"busi": patients})
    assert mine.read_bytes() == b"an image of a patient"
    assert [path.name for path in tmp_path.iterdir()] == ["busi"]
    with pytest.raises(flames.FlamesError, match=r"cannot be written: .*; check space and rights"):
        flames.make_phantoms(mine, patients={"busi": 1})


def test_phantoms_of_a_number_and_a_name_that_do_not_exist_are_named(tmp_path):
    for patients, expected in (({"lits": 3}, "got 3 patients of lits"), (0, "got 0 patients of brats")):
        with pytest.raises(flames.FlamesError, match=expected):
            flames.make_phantoms(tmp_path / "raw", patients=patients)
    with pytest.raises(flames.FlamesError, match="got no data set"):
        flames.check(workspace=tmp_path)
