"""Every benchmark runs at toy size, in this process, on phantoms or noise: what it calls and prints is right.

Those that start processes are run by the function that a process runs.
"""

import json

import pytest

from tests.benchmarks.loading import load, run
from tests.support.tiny import OPTIONS

SMALL = {"model_options": OPTIONS["model_options"], "batch_size": 4, "rounds": 1}


def test_intensity_prints_the_area_under_the_curve_of_each_volume(phantom_raw, monkeypatch, capsys):
    run("intensity", monkeypatch, "--brats", phantom_raw["brats"])
    *volumes, medians = capsys.readouterr().out.splitlines()[1:]
    assert len(volumes) == 15
    assert medians.startswith(("median 0.", "median 1."))


def test_mask_resize_prints_both_ways_for_each_size(phantom_raw, monkeypatch, capsys):
    run("mask_resize", monkeypatch, "busi", phantom_raw["busi"], "--sizes", 32, 48)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert {(row[0], row[2]) for row in rows} == {
        (size, way) for size in ("32", "48") for way in ("aligned", "paper")
    }


def test_predict_measures_both_arms(tmp_path, monkeypatch, capsys):
    predict = load("predict", monkeypatch)
    monkeypatch.setattr(predict, "VOLUME_SIDE", 48)
    predict.draw(tmp_path, 2, 1, 8)
    predict.make_model(tmp_path / "model", "unet", OPTIONS["model_options"], 32)
    (tmp_path / "warm").symlink_to(tmp_path / "stills")
    for arm in predict.ARMS:
        run("predict", monkeypatch, "--arm", arm, "--kind", "volumes", "--folder", tmp_path, "--size", 32)
        figures = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert figures["seconds"] > 0 < figures["peak_mb"]


def test_startup_prints_the_ratio_to_an_empty_python(monkeypatch, capsys):
    startup = load("startup", monkeypatch)
    startup.COMMANDS["flames --help"] = startup.COMMANDS["python -c pass"]
    monkeypatch.setattr("sys.argv", ["startup.py", "--runs", "1"])
    startup.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("ratio ")


def test_results_trains_and_evaluates_an_arm(tiny, monkeypatch, capsys, one_thread):
    results, workspace = load("results", monkeypatch), tiny()
    arm = results.Arm("toy", "flames", {**results.SMALL, **SMALL})
    assert results.run_member(workspace, "cpu", None, (arm, 0))
    assert results.evaluate_arm(workspace, "cpu", arm)
    assert "toy: 1 rounds" in capsys.readouterr().out


def test_final_statistics_scores_each_model_three_times(tiny, monkeypatch, capsys, one_thread):
    options = ("--strategies", "fedavg", "--rounds", 1, "--base-channels", 2, "--device", "cpu")
    run("final_statistics", monkeypatch, "--workspace", tiny(), *options)
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert "stale" in header
    assert last.startswith("largest loss: fedavg ")
    assert len(rows) >= 3


def test_compare_strategies_prints_tables_of_unseen_centres(phantom_raw, tmp_path, monkeypatch, capsys):
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        workspace = "{tmp_path / "workspace"}"
        [preprocess]
        datasets = ["lits-slices"]
        raw = {{ lits-slices = "{phantom_raw["lits-slices"]}" }}
        size = 32
        server_test = 0
        test_fraction = 0
        [partition]
        datasets = ["lits-slices"]
        val_fraction = 0
        [federate]
        rounds = 1
        model = "unet"
        model_options = {{ base_channels = 2, depth = 1 }}
        batch_size = 4
        device = "cpu"
        """,
        encoding="utf-8",
    )
    run("compare_strategies", monkeypatch, config, "fedavg", "fedgs", "--unseen", "C1", "--seeds", 0)
    out = capsys.readouterr().out
    assert all(word in out for word in ("fedavg", "fedgs", "| large, unseen sites"))


def test_a_long_run_measures_its_resources(tmp_path, monkeypatch):
    long_run = load("long_run", monkeypatch)
    monkeypatch.setattr(long_run, "PATIENTS", {"busi": 12})
    long_run.prepare(tmp_path)
    measured = long_run.run_arm("fedavg", tmp_path, 2)
    assert set(measured) == {1, 2}
    assert all(at["mb"] > 0 < at["files"] for at in measured.values())


def test_evaluate_prints_ratios_to_the_prediction(monkeypatch, capsys):
    few = ("--images", 3, "--volumes", 1, "--slices", 4, "--size", 32, "--device", "cpu")
    run("evaluate", monkeypatch, *few)
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split(":")[0] for row in rows] == ["3 images"] * 3 + ["1 volumes"] * 3
    assert rows[0].endswith("1.00x")


@pytest.mark.parametrize("arm", ["flower", "fedavg"])
def test_engines_runs_clients_that_add_a_constant(arm, monkeypatch, capsys):
    app, engines = load("engines_app", monkeypatch), load("engines", monkeypatch)
    app.run_here(app.Arm(arm, 2, 0.1, 2))
    marks = json.loads(capsys.readouterr().out)
    assert len(marks) == 4
    assert marks == sorted(marks)
    median = engines.print_line("constant", arm, marks, 1e-9)
    assert f"{median:.3f} s" in capsys.readouterr().out


def test_engines_trains_the_sites(tiny, monkeypatch, one_thread):
    for marks in load("engines", monkeypatch).federate_sites(tiny(), 1):
        assert len(marks) == 3
        assert marks == sorted(marks)


def test_train_compares_memory_formats_and_a_round_with_its_steps(monkeypatch, capsys, one_thread):
    small = ("--size", 32, "--batch", 4, "--steps", 1, "--fp32-only")
    run("train", monkeypatch, *small)
    assert "fp32 channels_last" in capsys.readouterr().out
    run("train", monkeypatch, *small, "--round", "--base-channels", 2, "--images", 8, "--val", 2)
    rows = {line[:22].strip(): line[22:].split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert len(rows) == 7
    assert float(rows["round"][0]) > float(rows["statistics (twice)"][0]) > 0


def test_swarm_compares_a_server_with_topologies(tiny, monkeypatch, capsys, one_thread):
    swarm = load("swarm", monkeypatch)
    small = {key: value for key, value in SMALL.items() if key != "rounds"}
    monkeypatch.setattr(swarm, "MODEL", {**swarm.MODEL, **small})
    workspace = tiny()
    arms = [swarm.Arm(name, 0.5, 0) for name in ("server", "full")]
    found = {arm: swarm.measure(workspace, 1, arm) for arm in arms}
    header, _, *rows = swarm.table(found)
    assert header == "| arm | absent | MRI | US | clients | outsiders | took part | MiB a round |"
    assert [row.split(" | ")[0] for row in rows] == ["| server", "| full"]
