"""Every tracker stores the same figures under the same names; read back by the package of each."""

import importlib.util
import os
import shutil

import pytest

from flames_cli.errors import FlamesError, NotWritten
from flames_cli.trackers import TRACKERS, check_package, check_trackers, make_tracker
from flames_cli.trackers.base import TrackedRun
from tests.support.tracked import READERS, find_mlflow, open_mlflow, wandb_records

FIGURES = {
    1: {"round/seconds": 2.5, "pooled/train_loss": 0.5, "train_loss/a": 0.25},
    2: {"round/seconds": 1.5, "pooled/train_loss": 0.25, "train_loss/a": 0.125, "train_loss/b": 0.75},
    3: {"round/seconds": 1.0, "train_loss/b": 0.5},
}
"""Powers of two: TensorBoard stores single precision."""

CHOSEN = {"chosen/round": 2.0, "chosen/val_dice": 0.75}


@pytest.fixture(params=TRACKERS)
def kind(request, monkeypatch):
    for name in os.environ:
        if name.startswith(("WANDB_", "MLFLOW_TRACKING", "MLFLOW_EXPERIMENT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return pytest.importorskip(request.param) and request.param


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory):
    """Return a workspace with an empty file of MLflow, which takes a second to make; None without MLflow."""
    if importlib.util.find_spec("mlflow") is None:
        return None
    workspace = tmp_path_factory.mktemp("empty")
    (workspace / "mlflow").mkdir()
    make_tracker("mlflow")  # MLflow reads the variables that it sets
    open_mlflow(workspace).search_experiments()
    return workspace


@pytest.fixture
def make_run(empty_mlflow, tmp_path):
    if empty_mlflow:
        shutil.copytree(empty_mlflow, tmp_path, dirs_exist_ok=True)

    def make(name="mine", family="", identity="0123456789abcdef", **parameters):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        return TrackedRun(
            name, family, identity, folder, tmp_path, {"lr": 0.5, "model": "unet", **parameters}
        )

    return make


def track(kind, run, rounds, status="finished", final=True):
    """Track rounds of FIGURES with a new tracker; return the last round that was there before."""
    tracker = make_tracker(kind)
    last = tracker.start(run)
    for number in rounds:
        tracker.round(number, FIGURES[number])
    if final:
        tracker.final(max(rounds), CHOSEN)
    tracker.finish(status)
    return last


def once(*numbers):
    found = {number: {name: [value] for name, value in FIGURES[number].items()} for number in numbers}
    found[max(numbers)] |= {name: [value] for name, value in CHOSEN.items()}
    return found


def test_all_figures_are_stored_under_their_names(kind, make_run, tmp_path):
    assert track(kind, make_run(), [1, 2, 3]) == 0
    assert READERS[kind](make_run().folder, tmp_path) == once(1, 2, 3)


def test_a_run_that_continues_is_one_run_with_all_rounds(kind, make_run, tmp_path):
    track(kind, make_run(), [1, 2], status="interrupted", final=False)
    assert track(kind, make_run(), [3]) == 2
    assert READERS[kind](make_run().folder, tmp_path) == once(1, 2, 3)


def test_the_figures_of_the_end_are_stored_once(kind, make_run, tmp_path):
    track(kind, make_run(), [1, 2, 3])
    tracker = make_tracker(kind)
    assert tracker.start(make_run()) == 3
    tracker.final(3, CHOSEN)
    tracker.finish("finished")
    found = READERS[kind](make_run().folder, tmp_path)
    if kind == "wandb":  # the same value again in the summary of the run
        found[3] |= {name: values[:1] for name, values in found[3].items()}
    assert found == once(1, 2, 3)


def test_nothing_is_written_outside_of_the_workspace(kind, make_run, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    track(kind, make_run(), [1])
    assert not list(elsewhere.iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"elsewhere", "runs", "mlflow"}


def test_an_event_file_that_was_cut_short_does_not_hide_later_rounds(make_run, tmp_path):
    pytest.importorskip("tensorboard")
    track("tensorboard", make_run(), [1, 2], final=False)
    (file,) = (make_run().folder / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert track("tensorboard", make_run(), [2, 3]) == 1
    assert READERS["tensorboard"](make_run().folder, tmp_path) == once(1, 2, 3)


def test_a_line_of_the_table_that_was_cut_short_is_written_again(make_run, tmp_path):
    track("csv", make_run(), [1, 2], final=False)
    table = make_run().folder / "csv" / "rounds.csv"
    table.write_bytes(table.read_bytes()[:-5])
    assert track("csv", make_run(), [2, 3]) == 1
    assert READERS["csv"](make_run().folder, tmp_path) == once(1, 2, 3)


def test_rounds_that_wandb_lost_when_it_was_killed_are_stored_again(make_run, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track("wandb", make_run(), [1, 2], final=False)
    records = wandb_records(make_run().folder)
    assert records[-1].WhichOneof("record_type") == "exit"
    (file,) = make_run().folder.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    # The file ends within the history of round 2.
    file.write_bytes(content[: content.rindex(b"round/seconds") + 5])
    assert track("wandb", make_run(), [2, 3]) == 1


def test_hyperparameters_are_in_the_event_file(make_run):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    track("tensorboard", make_run(), [1])
    events = EventAccumulator(str(make_run().folder / "tensorboard"))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    stored = HParamsPluginData.FromString(content).session_start_info.hparams
    assert stored["lr"].number_value == 0.5
    assert stored["model"].string_value == "unet"


def test_mlflow_has_parameters_changed_options_the_end_and_the_family(make_run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for seed in (0, 1):
        track("mlflow", make_run(f"many-seed-{seed}", "many", identity=f"id{seed}", rounds=2), [1, 2])
    track("mlflow", make_run("many-seed-0", "many", identity="id0", rounds=3), [3], status="failed")
    client = open_mlflow(tmp_path)
    runs = {run.info.run_name: run for run in find_mlflow(client)}
    assert set(runs) == {"many", "many-seed-0", "many-seed-1"}
    assert {runs[f"many-seed-{n}"].data.tags["mlflow.parentRunId"] for n in (0, 1)} == {
        runs["many"].info.run_id
    }
    assert runs["many-seed-0"].data.params["rounds"] == "2"
    assert runs["many-seed-0"].data.tags["changed.rounds"] == "3"
    assert runs["many-seed-0"].info.status == "FAILED"
    assert runs["many-seed-1"].info.status == "FINISHED"


def test_wandb_has_parameters_and_the_group_and_nothing_of_the_machine(make_run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track("wandb", make_run("many-seed-0", "many"), [1])
    records = wandb_records(make_run("many-seed-0").folder)
    (run,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.display_name, run.run_group) == ("0123456789abcdef", "many-seed-0", "many")
    assert {one.key: one.value_json for one in run.config.update}["lr"] == "0.5"
    assert run.host == "flames"
    assert not [record for record in records if record.WhichOneof("record_type") in ("environment", "stats")]
    saved = make_run("many-seed-0").folder.glob("wandb/offline-run-*/files/*")
    assert not list(saved)


def test_a_full_disk_is_an_error_of_the_tracker(make_run, monkeypatch):
    tracker = make_tracker("csv")
    tracker.start(make_run())
    tracker.round(1, FIGURES[1])
    monkeypatch.setattr("flames_cli.store.files.jsonl.write_all", _fail)
    with pytest.raises(NotWritten, match="No space left"):
        tracker.round(2, {**FIGURES[1]})


def _fail(*_):
    raise OSError(28, "No space left on device")


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FlamesError, match=r"--track wandb needs .* pip install 'flames-cli\[wandb\]'"):
        check_trackers(["wandb"])


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "nopackage").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FlamesError, match="not installed"):
        check_package("nopackage")
