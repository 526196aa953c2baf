import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flames_cli.core.scores.intervals import bootstrap_interval
from flames_cli.core.scores.summaries import METRICS
from flames_cli.stages.evaluate import files as evaluation_files
from flames_cli.stages.evaluate.files import CASE_COLUMNS
from flames_cli.stages.evaluate.lesion_rows import SIZES
from tests.support.asserts import read_csv
from tests.support.stages import evaluate_run

FILES = [
    "cases.csv",
    "clients.csv",
    "lesions-clients.csv",
    "lesions-server.csv",
    "overlays-client.png",
    "overlays-server.png",
    "server.csv",
    "summary.json",
]
LESIONS = ("lesions", "lesions_found", "lesions_predicted", "lesions_right")


@pytest.fixture(scope="module")
def evaluated(finished_runs, tmp_path_factory):
    """{compared run: the evaluation of run flames, with pictures}: for reading only."""
    folder = tmp_path_factory.mktemp("evaluated")
    return {
        compare: evaluate_run(
            shutil.copytree(finished_runs, folder / str(compare)), compare=compare, overlays=True
        )
        for compare in (None, "fedavg")
    }


def test_a_round_of_evaluation_writes_these_files(evaluated):
    result = evaluated[None]
    assert sorted(path.name for path in result.folder.iterdir()) == FILES
    assert result.folder.parts[-3:] == ("runs", "flames", "evaluation")
    for name in FILES:
        if name.endswith(".png"):
            with Image.open(result.folder / name) as picture:
                assert np.asarray(picture.convert("L")).std() > 0


def test_cases_are_tidy(evaluated):
    rows = read_csv(evaluated[None].folder / "cases.csv")
    assert tuple(rows[0]) == CASE_COLUMNS
    assert {row["run"] for row in rows} == {"flames"}
    assert {row["split"] for row in rows} == {"client_test", "server_test"}
    assert {row["metric"] for row in rows} == {*METRICS, *LESIONS}
    assert {row["lesion"] for row in rows} == {"small", "large"}
    keys = [tuple(row[name] for name in CASE_COLUMNS[:-1]) for row in rows]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("compare", [None, "fedavg"])
def test_every_line_of_a_table_fits_its_header(compare, evaluated):
    result = evaluated[compare]
    for name in ("clients.csv", "server.csv", "lesions-clients.csv", "lesions-server.csv"):
        with (result.folder / name).open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        assert header[:3] == ["model", "modality", "organ"]
        assert {"n", "dice_mean"} < set(header)
        assert len(set(header)) == len(header)
        assert {len(line) for line in lines} == {len(header)}
        assert ("dice_gain" in header) is (compare is not None)


def test_tables_hold_the_summaries_in_full_precision(evaluated):
    result = evaluated["fedavg"]
    for row, line in zip(result.clients, read_csv(result.folder / "clients.csv"), strict=True):
        assert (line["model"], line["modality"], line["organ"], int(line["n"])) == (
            row.label,
            row.modality,
            row.organ,
            row.n,
        )
        for metric in METRICS:
            assert float(line[f"{metric}_mean"]) == pytest.approx(
                row.metrics[metric].mean, nan_ok=True, abs=0
            )
            assert float(line[f"fedavg_{metric}_sd"]) == pytest.approx(
                row.compared[metric].sd, nan_ok=True, abs=0
            )
            assert int(line[f"{metric}_n"]) == row.metrics[metric].n
        assert float(line["dice_gain"]) == row.dice_gain.mean


def test_the_summary_has_the_same_figures_in_json(evaluated):
    result = evaluated["fedavg"]
    summary = json.loads(
        (result.folder / "summary.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert (summary["format"], summary["version"]) == ("flames-evaluation", 3)
    assert (summary["run"], summary["strategy"], summary["round"]) == ("flames", "flames", 2)
    assert summary["compare"] == "fedavg"
    assert summary["clients"] == json.loads(json.dumps([row.as_json() for row in result.clients]))
    assert summary["server"] == json.loads(json.dumps([row.as_json() for row in result.server]))
    for split, table in (("client_test", "lesions_clients"), ("server_test", "lesions_server")):
        assert summary[table] == json.loads(json.dumps([row.as_json() for row in result.lesions[split]]))
    assert summary["small"] == dict.fromkeys(("brats", "busi", "otu2d"), "area:100:100")
    assert summary["interval"] == {"level": 0.95, "draws": 2000, "seed": 0}


@pytest.mark.parametrize("split", ["client_test", "server_test"])
def test_one_split_alone_can_be_asked_for(split, trained):
    shutil.rmtree(trained / "runs" / "flames" / "evaluation", ignore_errors=True)
    result = evaluate_run(trained, **{split: True})
    assert {row["split"] for row in read_csv(result.folder / "cases.csv")} == {split}
    assert (result.clients == []) is (split == "server_test")
    assert (result.server == []) is (split == "client_test")
    asked = "clients" if split == "client_test" else "server"
    files = ["cases.csv", f"{asked}.csv", f"lesions-{asked}.csv", "summary.json"]
    assert sorted(path.name for path in result.folder.iterdir()) == sorted(files)


def test_two_calls_for_one_split_each_write_the_same_files_as_one_call_for_both(trained):
    evaluate_run(trained, client_test=True, compare="fedavg")
    by_one = evaluate_run(trained, server_test=True, compare="fedavg").folder
    kept = {path.name: path.read_text() for path in sorted(by_one.glob("*.[cj]s*"))}
    both = evaluate_run(trained, compare="fedavg").folder
    assert set(kept) == {name for name in FILES if not name.endswith(".png")}
    assert kept == {path.name: path.read_text() for path in sorted(both.glob("*.[cj]s*"))}


def test_tables_of_other_models_are_removed(trained):
    folder = evaluate_run(trained, client_test=True, overlays=True).folder
    summary = json.loads((folder / "summary.json").read_text())
    summary["models"] = {"flames": "of an earlier checkpoint"}
    (folder / "summary.json").write_text(json.dumps(summary))
    evaluate_run(trained, server_test=True)
    for name in ("clients.csv", "lesions-clients.csv", "overlays-client.png"):
        assert not (folder / name).exists()
    assert {row["split"] for row in read_csv(folder / "cases.csv")} == {"server_test"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["clients"] == summary["lesions_clients"] == []


def test_a_call_that_is_interrupted_leaves_no_summary_of_tables_that_are_gone(trained, monkeypatch):
    first = evaluate_run(trained, compare="fedavg")
    monkeypatch.setattr(evaluation_files, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(trained, client_test=True)
    assert not (first.folder / "summary.json").exists()
    monkeypatch.undo()
    again = evaluate_run(trained, server_test=True, compare="fedavg")
    summary = json.loads((again.folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["clients"] == []
    assert not (again.folder / "clients.csv").exists()
    assert {row["split"] for row in read_csv(again.folder / "cases.csv")} == {"server_test"}


def interrupt(*_):
    raise KeyboardInterrupt


def test_pictures_of_other_tables_are_removed(trained):
    folder = evaluate_run(trained, overlays=True).folder
    evaluate_run(trained, client_test=True)
    assert not (folder / "overlays-client.png").exists()
    assert (folder / "overlays-server.png").exists()


def test_a_damaged_summary_of_an_earlier_call_is_replaced(trained):
    folder = evaluate_run(trained, client_test=True).folder
    (folder / "summary.json").write_text("{")
    evaluate_run(trained, server_test=True)
    assert json.loads((folder / "summary.json").read_text())["clients"] == []


def test_earlier_tables_outlive_a_missing_list_of_cases(trained):
    folder = evaluate_run(trained, client_test=True).folder
    (folder / "cases.csv").unlink()
    evaluate_run(trained, server_test=True)
    assert json.loads((folder / "summary.json").read_text())["clients"]
    assert {row["split"] for row in read_csv(folder / "cases.csv")} == {"server_test"}


def test_tables_of_an_earlier_release_are_removed(trained):
    folder = evaluate_run(trained, client_test=True).folder
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**summary, "version": 1}))
    evaluate_run(trained, server_test=True)
    assert json.loads((folder / "summary.json").read_text())["clients"] == []
    assert {row["split"] for row in read_csv(folder / "cases.csv")} == {"server_test"}


def test_the_table_by_size_is_of_the_cases_in_cases_csv(trained):
    result = evaluate_run(trained, "local", compare="fedavg")
    for split, name in (("client_test", "clients"), ("server_test", "server")):
        rows = read_csv(result.folder / "cases.csv")
        dice = [row for row in rows if (row["split"], row["metric"]) == (split, "dice")]
        ours, theirs = ([row for row in dice if row["run"] == name] for name in ("local", "fedavg"))
        other = {(row["dataset"], row["case"]): float(row["value"]) for row in theirs}
        lines = read_csv(result.folder / f"lesions-{name}.csv")
        assert {line["lesion"] for line in lines} == set(SIZES)
        for line in lines:
            chosen = [row for row in ours if belongs(row, line)]
            assert int(line["n"]) == len(chosen)
            assert int(line["patients"]) == len({(row["dataset"], row["patient"]) for row in chosen})
            values = [float(row["value"]) for row in chosen]
            mean = np.mean(values) if values else np.nan
            assert float(line["dice_mean"]) == pytest.approx(mean, nan_ok=True)
            gains = [float(row["value"]) - other[row["dataset"], row["case"]] for row in chosen]
            people = [f"{row['dataset']}/{row['patient']}" for row in chosen]
            expected = bootstrap_interval(gains, people, seed=0)
            found = [float(line[f"dice_gain{end}"]) for end in ("", "_low", "_high")]
            assert found == pytest.approx([expected.mean, expected.low, expected.high], nan_ok=True)


def belongs(case, line):
    """Return whether a line of cases.csv counts in a line of lesions-*.csv."""
    of_model = line["model"] in (case["client"], "all clients", "all models")
    of_organ = line["organ"] in (case["organ"], "all organs")
    return of_model and of_organ and line["lesion"] in (case["lesion"], "lesion", "all")


def test_lesions_are_counted_in_the_table_as_in_cases_csv(trained):
    result = evaluate_run(trained, "local", server_test=True)
    rows = read_csv(result.folder / "cases.csv")
    for row in result.lesions["server_test"]:
        counts = row.sizes["all"].lesions
        in_all = (counts.n, counts.found, counts.n_predicted, counts.n_right)
        for metric, n in zip(LESIONS, in_all, strict=True):
            line = {"model": row.label, "organ": row.organ, "lesion": "all"}
            chosen = [case for case in rows if case["metric"] == metric and belongs(case, line)]
            assert sum(int(case["value"]) for case in chosen) == n
        assert counts.n >= counts.found
        assert counts.n_predicted >= counts.n_right
    every = [row.sizes["all"].lesions for row in result.lesions["server_test"]]
    assert any(counts.found > 0 for counts in every)


def test_the_same_run_gives_the_same_bytes(evaluated, trained):
    one, other = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (
            evaluated["fedavg"].folder,
            evaluate_run(trained, compare="fedavg", overlays=True).folder,
        )
    )
    assert one == other
