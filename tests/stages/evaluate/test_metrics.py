"""Metrics of a plug-in file: from the measuring processes to the tables and a comparison."""

import statistics
from functools import partial

import numpy as np
import pytest

from flames_cli.cli.render_evaluation import metric_tables
from flames_cli.config import CompareConfig, EvaluateConfig
from flames_cli.errors import FlamesError
from flames_cli.plugins import FILES_VARIABLE, use_files
from flames_cli.stages.compare.stage import compare
from flames_cli.stages.evaluate.measuring import MaskPair, StackPair, Wanted, measure_image, measure_volume
from flames_cli.stages.evaluate.metric_rows import metric_lines
from flames_cli.stages.evaluate.stage import find_evaluation
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.worker_processes import WorkerProcesses
from flames_cli.store.evaluations import read_case_scores
from tests.support.asserts import read_csv
from tests.support.scores import make_score, make_volume
from tests.support.stages import evaluate_run, federate_config

SOURCE = """
import os

def excess(predicted, truth, spacing_mm):
    if not truth.any():
        return None
    return float(predicted.sum()) - float(truth.sum())

excess.higher_is_better = False
excess.unit = "px"

def place(predicted, truth, spacing_mm):
    return os.getpid()

def broken(predicted, truth, spacing_mm):
    return "much"

METRICS = {"excess": excess, "place": place, "broken": broken}
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES_VARIABLE, "")
    path = tmp_path / "own_metrics.py"
    path.write_text(SOURCE, encoding="utf-8")
    use_files([path])
    return path


@pytest.fixture(scope="module")
def trained(tiny):
    root = tiny()
    federate(federate_config(root, rounds=1))
    return root


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """Return an evaluation with the metric excess."""
    path = tmp_path_factory.mktemp("plugin") / "own_metrics.py"
    path.write_text(SOURCE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILES_VARIABLE, "")
        use_files([path])
        return evaluate_run(trained, metrics=("excess",))


def test_a_metric_is_a_column_of_every_case(evaluated):
    rows = read_csv(evaluated.folder / "cases.csv")
    assert len(rows) > 6
    for row in rows:
        ill = int(row["tp"]) + int(row["fn"]) > 0
        assert row["metric_excess"] == (str(float(int(row["fp"]) - int(row["fn"]))) if ill else "")
    scores = read_case_scores(evaluated.folder / "cases.csv")
    assert [score.metrics["excess"] for score in scores] == [
        float(row["metric_excess"]) if row["metric_excess"] else None for row in rows
    ]


def test_the_table_has_the_mean_over_images_as_that_of_dice(evaluated):
    line = max(evaluated.content.tables["metrics-clients"], key=lambda line: line["n"])
    own = [
        score.metrics["excess"]
        for score in read_case_scores(evaluated.folder / "cases.csv")
        if score.model == line["model"] and score.split == "client_test"
    ]
    values = [value for value in own if value is not None]
    assert line["mean"] == pytest.approx(statistics.fmean(values))
    assert line["sd"] == pytest.approx(statistics.stdev(values))
    assert (line["n"], line["n"] + line["n_undefined"], line["seeds"]) == (len(values), len(own), 1)
    assert (line["unit"], line["higher_is_better"], line["protocol"]) == ("px", False, "images")
    shown = next(metric_tables(evaluated.content))
    assert next(iter(shown.columns[0].cells)) == "excess ↓"


def test_the_evaluation_names_the_plug_in(evaluated):
    facts = evaluated.content.options["metrics"]["excess"]
    assert facts["plugin"].startswith("own_metrics.py sha256:")


def test_an_evaluation_with_more_metrics_is_used_for_fewer(evaluated, trained):
    def find(*metrics):
        small = {"device": "cpu", "precision": "fp32", "batch_size": 8}
        return find_evaluation(EvaluateConfig(workspace=trained, run="flames", metrics=metrics, **small))

    assert find() == find("excess") == evaluated.folder
    assert find("place") is None


def test_runs_are_compared_by_a_metric(evaluated, trained):
    options = {"device": "cpu", "precision": "fp32", "batch_size": 8, "overlays": False}
    config = CompareConfig(workspace=trained, runs=("flames",), metrics=("excess",), **options)
    made = compare(config)
    assert made.evaluated == ()
    rows = [row for row in read_csv(made.folder / "means.csv") if row["metric"] == "metric_excess"]
    line = evaluated.content.tables["metrics-clients"][0]
    (mean,) = [float(row["mean"]) for row in rows if row["label"] == line["model"]]
    assert mean == pytest.approx(line["mean"])


def test_an_evaluation_that_is_named_must_have_the_metric(evaluated, trained):
    named = evaluate_run(trained, name="plain")
    with pytest.raises(FlamesError, match="got --metric place, and the evaluation plain was made without it"):
        compare(CompareConfig(workspace=trained, runs=(named.content.name,), metrics=("place",)))


def test_an_evaluation_that_is_named_must_have_the_metric_by_the_same_code(trained, file):
    named = evaluate_run(trained, name="older", metrics=("excess",))
    file.write_text(SOURCE.replace("higher_is_better = False", "higher_is_better = True"), encoding="utf-8")
    use_files([file])
    with pytest.raises(FlamesError, match=r"evaluation older has metric 'excess' of own_metrics\.py sha256"):
        compare(CompareConfig(workspace=trained, runs=(named.content.name,), metrics=("excess",)))


def test_a_metric_that_fails_stops_the_evaluation_with_plug_in_and_case(trained):
    with pytest.raises(FlamesError, match=r"metric 'broken' of own_metrics.py sha256:\w+ gives 'much' for "):
        evaluate_run(trained, metrics=("broken",), name="broken")
    assert not (trained / "evaluations" / "broken").exists()


def test_each_process_loads_the_plug_in_by_itself():
    masks = np.zeros((8, 8), np.uint8)
    pairs = [MaskPair(masks, masks, (8, 8), (1.0, 1.0), f"case {number}") for number in range(4)]
    processes = WorkerProcesses(partial(measure_image, Wanted(metrics=("place",))), 2)
    try:
        found = list(processes.map(iter(pairs), 1, first=iter(())))
    finally:
        processes.end()
    here = measure_image(Wanted(metrics=("place",)), pairs[0])["metrics"]["place"]
    assert all(one["metrics"]["place"] != here for one in found)


def test_a_volume_is_measured_as_a_stack_with_the_size_of_its_voxels():
    truth = np.ones((2, 4, 4), np.uint8)
    pair = StackPair(truth[::-1] * 0, truth, (3.0, 1.0, 1.0), (4.0, 4.0), "brats/v")
    assert measure_volume(Wanted(metrics=("excess",)), pair)["metrics"] == {"excess": -32.0}


def test_volumes_and_other_images_are_lines_of_their_own_and_infinity_is_counted():
    options = {"metrics": {"own": {"plugin": "pack 1.0", "higher_is_better": True, "unit": ""}}}
    cases = [
        make_score("a", 0.5, model="MRI", modality="MRI", metrics={"own": 1.0}, patient="p"),
        make_score("b", 0.5, model="MRI", modality="MRI", metrics={"own": 3.0}, patient="p"),
        make_score("c", 0.5, model="MRI", modality="MRI", metrics={"own": float("inf")}),
        make_score("d", 0.5, model="MRI", modality="MRI", metrics={"own": None}),
        make_score("s", 0.5, model="MRI", modality="MRI", dataset="brats", volume="v", metrics={"own": 9.0}),
    ]
    volumes, images = metric_lines(cases, [make_volume("v", 0.5, metrics={"own": 5.0})], options)
    assert (volumes["protocol"], volumes["mean"], volumes["patients"]) == ("volumes", 5.0, 1)
    assert (images["protocol"], images["mean"], images["patients"]) == ("images", 2.0, 1)
    assert (images["n"], images["n_infinite"], images["n_undefined"]) == (2, 1, 1)
    assert metric_lines(cases, [], {}) == []


def test_a_patient_with_many_images_counts_as_in_a_comparison_and_seeds_have_their_own_means():
    options = {"metrics": {"own": {"plugin": "pack 1.0", "higher_is_better": True, "unit": ""}}}

    def score(case, patient, value, seed=0):
        return make_score(case, 0.5, patient=patient, seed=seed, metrics={"own": value})

    cases = [score("a", "p", 0.0), score("b", "p", 0.0), score("c", "q", 3.0)]
    (line,) = metric_lines(cases, [], options)
    assert (line["mean"], line["patients"], line["n"]) == (1.0, 2, 3)
    others = [score("a", "p", 1.0, 1), score("b", "p", None, 1), score("c", "q", float("inf"), 1)]
    (both,) = metric_lines([*cases, *others], [], options)
    assert (both["mean"], both["sd"], both["seeds"]) == (1.0, 0.0, 2)
    assert (both["n"], both["n_infinite"], both["n_undefined"]) == (1, 1, 1)
