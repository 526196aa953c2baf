"""The script for the day when a GPU is at hand, run once at toy size on the CPU."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flames_cli.store.cases import SetInfo
from flames_cli.store.h5 import Selection, write_shard
from tests.support.datasets import write_noise

ROOT = Path(__file__).parents[2]
TRAINED = ("train", "val", "test")
SECTIONS = {"card", "correctness", "speed", "operations", "around", "rounds"}

FOREIGN = (
    "cryptography",
    "flwr",
    "imagehash",
    "isal",
    "nibabel",
    "psutil",
    "pydantic",
    "pydicom",
    "rich",
    "simplejpeg",
    "sklearn",
    "tomli_w",
    "typer",
)
"""What a machine lent for its GPU need not have."""

BLOCKED = f"""
import runpy, sys

sys.modules.update(dict.fromkeys({FOREIGN!r}))
sys.path[0] = {str(ROOT / "benchmarks")!r}
sys.argv[0] = "gpu.py"
runpy.run_path({str(ROOT / "benchmarks" / "gpu.py")!r}, run_name="__main__")
"""
"""A module that is None cannot be imported, and those that only look for it find none."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two clients of two modalities, and unseen patients of one."""
    folder = tmp_path_factory.mktemp("shards")
    for name, modality in (("brats", "MRI"), ("busi", "US")):
        source = folder.parent / f"{name}-source.h5"
        counts = {"client_train": 4, "client_val": 2, "client_test": 2, "server_test": 2}
        members = {own: [(f"{name}-{own}", f"{name}-{own}", n)] for own, n in counts.items()}
        write_noise(source, members, SetInfo(name, modality, "breast", 16, 255))
        sets = {one: Selection(source, {f"client_{one}": range(counts[f"client_{one}"])}) for one in TRAINED}
        write_shard(folder / f"{name}.h5", name, modality, sets)
    unseen = {"test/busi": Selection(source, {"server_test": range(2)})}
    write_shard(folder / "server-US.h5", "server-US", "US", unseen)
    return folder


@pytest.fixture(scope="module")
def toy(shards, tmp_path_factory):
    """What a toy run without the foreign packages printed, its exit status and its figures."""
    path = tmp_path_factory.mktemp("gpu") / "figures.json"
    options = ["--toy", "--device", "cpu", "--minutes", "4", "--shards", str(shards), "--json", str(path)]
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED, *options],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return result, json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def running(monkeypatch):
    """The module that runs the sections."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_parts.running")


@pytest.mark.slow
def test_every_section_runs_without_packages_that_a_gpu_machine_may_not_have(toy):
    result, figures = toy
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(figures) == SECTIONS
    assert not [name for name, found in figures.items() if "failed" in found]


@pytest.mark.slow
def test_a_device_agrees_with_itself_and_every_setup_is_measured(toy):
    _, figures = toy
    assert figures["correctness"]["problems"] == []
    assert figures["correctness"]["unet"]["gradient"] == 0
    rows = figures["speed"]["unet"]["rows"]
    assert len(rows) == 11
    assert all(row["images_s"] > 0 and 0 < row["share"] < 1 for row in rows)
    assert len(figures["operations"]["toolkit's training"]["operations"]) == 10


@pytest.mark.slow
def test_the_warp_of_a_device_puts_pixels_where_opencv_does(toy):
    warp = toy[1]["around"]["warp"]
    assert warp["mask pixels that differ"] < 0.01
    assert warp["mean grey difference"] < 0.05  # of noise, which differs most


@pytest.mark.slow
def test_both_strategies_do_as_many_rounds_and_are_tested(toy):
    rounds = toy[1]["rounds"]
    assert rounds["rounds"] == 2
    for strategy in ("fedavg", "flames"):
        assert len(rounds[strategy]["val_dice"]) == 2
        assert set(rounds[strategy]["test"]["clients"]) == {"brats", "busi"}
        assert set(rounds[strategy]["test"]["server"]) == {"US"}


@pytest.mark.slow
def test_the_table_comes_last(toy):
    last = toy[0].stdout.rpartition("== summary")[2]
    assert all(f"{name}: ok, " in last for name in SECTIONS)
    assert len(last.splitlines()) < 90


def test_a_section_that_fails_or_hangs_leaves_the_others_alone(running, monkeypatch, capsys):
    monkeypatch.setattr(running, "GRACE_S", 0.05)
    saved = []

    def fail(run, clock):
        raise ValueError("the card is on fire")

    def hang(run, clock):
        time.sleep(30)

    sections = [
        running.Section("burns", 0.1, fail),
        running.Section("hangs", 0.2, hang),
        running.Section("works", 0.7, lambda run, clock: ["well"]),
    ]
    run = running.Run(device=None)
    outcomes = running.run_sections(sections, run, 0.5, lambda: saved.append(len(run.figures)))
    assert [outcome.failed for outcome in outcomes] == [True, True, False]
    assert saved == [1, 2, 3]
    assert outcomes[0].lines == ["FAILED: ValueError: the card is on fire"]
    assert "OutOfTimeError" in run.figures["hangs"]["failed"]
    assert "burns: FAILED, 0 s" in "\n".join(running.summarise(outcomes))
    assert "in fail\n" in capsys.readouterr().out


def test_a_limit_within_another_leaves_it_running(running):
    def sleep():
        with running.time_limit(0.2):
            with running.time_limit(60):
                pass
            time.sleep(30)

    with pytest.raises(running.OutOfTimeError):
        sleep()


def test_figures_that_json_does_not_know_are_null(running, tmp_path):
    running.write_figures(tmp_path / "new" / "a.json", {"a": float("nan"), 1: (1.23456789, True, Path("x"))})
    text = (tmp_path / "new" / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "1": [1.23457, True, "x"]}
