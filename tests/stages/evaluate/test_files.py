import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flames_cli.stages.evaluate import files as evaluation_files
from flames_cli.stages.evaluate.tables import make_tables
from flames_cli.store.evaluations import (
    evaluation_json,
    read_case_scores,
    read_evaluation_file,
    read_volume_scores,
)
from flames_cli.store.predictions import open_predictions
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run

FILES = [
    "calibration-clients.csv",
    "calibration-server.csv",
    "calibration.csv",
    "calibration.png",
    "cases.csv",
    "clients.csv",
    "evaluation.json",
    "froc.csv",
    "lesions-clients.csv",
    "lesions-server.csv",
    "overlays-client.png",
    "overlays-server.png",
    "predictions.h5",
    "server.csv",
    "summary-clients.csv",
    "summary-server.csv",
    "volumes-clients.csv",
    "volumes-server.csv",
    "volumes.csv",
]


@pytest.fixture(scope="module")
def evaluated(finished_runs, tmp_path_factory):
    """Return the evaluation of run flames, with pictures: for reading only."""
    folder = tmp_path_factory.mktemp("evaluated")
    return evaluate_run(shutil.copytree(finished_runs, folder / "space"), overlays=True)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_evaluation_is_one_folder_with_these_files(evaluated):
    assert sorted(path.name for path in evaluated.folder.iterdir()) == FILES
    assert evaluated.folder.parts[-2:] == ("evaluations", "flames")
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(evaluated.folder / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 0


def test_every_line_of_a_table_fits_its_header(evaluated):
    for name in evaluated.content.tables:
        with (evaluated.folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        if not name.startswith("calibration"):
            assert header[:4] == ["model", "modality", "organ", "dataset"]
            assert {"n", "patients", "dice_mean"} < set(header)
        assert len(set(header)) == len(header)
        assert {len(line) for line in lines} == {len(header)}


def test_all_tables_follow_from_the_scores_in_the_same_folder(evaluated):
    folder = evaluated.folder
    content = read_evaluation_file(folder / "evaluation.json")
    cases, volumes = read_case_scores(folder / "cases.csv"), read_volume_scores(folder / "volumes.csv")
    again = make_tables(cases, volumes, content.options["splits"], content.options["interval"]["seed"])
    assert again == evaluated.tables
    assert set(again.as_lines()) == {name.removesuffix(".csv") for name in FILES if name.endswith(".csv")} - {
        *("cases", "volumes", "calibration", "froc"),
        *("calibration-clients", "calibration-server"),  # tests/stages/evaluate/test_details.py
    }


def test_evaluation_json_has_the_tables_in_full_precision(evaluated):
    text = (evaluated.folder / "evaluation.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == json.loads(json.dumps(evaluation_json(evaluated.content)))
    assert (found["format"], found["version"], found["run"]) == ("flames-evaluation", 4, "flames")
    assert found["small"] == dict.fromkeys(("brats", "busi", "otu2d"), "area:100:100")
    assert found["options"]["interval"] == {"level": 0.95, "draws": 2000, "seed": 0}
    for name, lines in found["tables"].items():
        for line, row in zip(lines, read_csv(evaluated.folder / f"{name}.csv"), strict=True):
            assert list(line) == list(row)
            for column, value in line.items():
                if isinstance(value, float):
                    assert float(row[column]) == value
                elif value is None:
                    assert row[column] == ""


def test_predicted_masks_give_the_counts_of_every_image(evaluated):
    scores = {
        (score.split, score.model, score.unseen_site, score.dataset, score.case): score
        for score in read_case_scores(evaluated.folder / "cases.csv")
    }
    seen = 0
    with open_predictions(evaluated.folder / "predictions.h5") as predictions:
        for number, one in enumerate(predictions.sets):
            masks = predictions.masks(number)
            for dataset, case, mask in zip(one.datasets, one.cases, masks, strict=True):
                score = scores[one.split, one.model, one.unseen_site, dataset, case]
                assert score.tp + score.fp == np.count_nonzero(mask)
                seen += 1
    assert seen == len(scores)
    assert any(score.tp for score in scores.values())


@pytest.mark.parametrize(("asked", "split"), [("client", "client_test"), ("server", "server_test")])
def test_one_split_is_an_evaluation_of_its_own(asked, split, trained):
    both = evaluate_run(trained)
    before = content_of(both.folder)
    result = evaluate_run(trained, **{split: True})
    assert result.folder == trained / "evaluations" / f"flames-{asked}-test"
    assert {row["split"] for row in read_csv(result.folder / "cases.csv")} == {split}
    assert set(result.content.tables) == {name for name in both.content.tables if asked in name}
    assert all(result.content.tables[name] == both.content.tables[name] for name in result.content.tables)
    assert content_of(both.folder) == before


def test_the_same_run_gives_the_same_bytes(trained):
    first = content_of(evaluate_run(trained, overlays=True).folder)
    again = evaluate_run(trained, overlays=True)
    assert content_of(again.folder) == first
    assert [path.name for path in again.folder.parent.iterdir() if path.is_dir()] == ["flames"]


def test_pictures_and_other_files_of_the_same_evaluation_are_kept(trained):
    folder = evaluate_run(trained, overlays=True).folder
    (folder / "my-notes.txt").write_text("the worst case is a biopsy")
    before = content_of(folder)
    evaluate_run(trained)
    assert content_of(folder) == before


def test_the_result_of_other_models_is_set_aside(trained):
    first = evaluate_run(trained, "flames", name="mine")
    before = content_of(first.folder)
    second = evaluate_run(trained, "fedavg", name="mine")
    assert second.folder == first.folder == trained / "evaluations" / "mine"
    assert content_of(trained / "evaluations" / "mine-old-1") == before
    assert (first.aside, second.aside) == ("", "mine-old-1")
    assert read_evaluation_file(second.folder / "evaluation.json").run == "fedavg"


@pytest.mark.parametrize("damage", ["{", '{"format": "flames-evaluation", "version": 3}'])
def test_a_damaged_result_or_one_of_an_earlier_release_is_set_aside(damage, trained):
    folder = evaluate_run(trained).folder
    (folder / "evaluation.json").write_text(damage)
    evaluate_run(trained)
    assert (trained / "evaluations" / "flames-old-1" / "evaluation.json").read_text() == damage
    assert read_evaluation_file(folder / "evaluation.json").run == "flames"


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_call_that_is_interrupted_leaves_the_earlier_result(trained, monkeypatch):
    folder = evaluate_run(trained).folder
    before = content_of(folder)
    monkeypatch.setattr(evaluation_files, "write_evaluation_file", interrupt)
    for run in ("flames", "fedavg"):
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(trained, run, name="flames")
        assert content_of(folder) == before
