"""The example package outside this one: installed, used by every stage and engine, and uninstalled again."""

import json
import shutil
import subprocess
import sys

import pytest

from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import RunFolder, read_config
from tests.support.asserts import assert_same_state, without_timings
from tests.support.command_line import ROOT, fails, flames

PARTS = ("--strategy", "fair", "--model", "dilated-net", "--model-option", "channels=4")
PARTS += ("--model-option", "blocks=2", "--loss", "focal-tversky", "--augmentation", "speckle")
SMALL = ("--rounds", "2", "--batch-size", "8", "--lr", "1e-2", "--device", "cpu")


@pytest.mark.federated
def test_a_package_adds_a_part_to_every_stage(work, isic):
    said = flames("check", "--dataset", "isic2018", "--raw", isic, "--size", "32", code=4)
    assert "ISIC_9999999.jpg: its mask has 9×9 pixels and the image 40×48, expected the same;" in said.output
    flames("federate", *PARTS, *SMALL, "--run", "fair")
    facts = read_config(RunFolder(work / "flames-workspace" / "runs" / "fair").config)["run"]
    assert [fact.split() for fact in facts["plugins"]] == [
        ["augmentations/speckle", "flames-example", "0.1.0"],
        ["losses/focal-tversky", "flames-example", "0.1.0"],
        ["models/dilated-net", "flames-example", "0.1.0"],
        ["strategies/fair", "flames-example", "0.1.0"],
    ]
    said = flames("evaluate", "--run", "fair", "--metric", "boundary-iou", "--device", "cpu", "--no-overlays")
    assert "boundary-iou" in said.output
    flames("export", "--run", "fair", "--model", "DERM", "--name", "skin")
    new = work / "new"
    new.mkdir()
    shutil.copy(isic / "images" / "ISIC_0000003.jpg", new)
    flames("predict", "--model", "flames-workspace/models/skin", new, "--out", "masks")
    assert [path.name for path in (work / "masks").rglob("*.png")]


@pytest.mark.federated
@pytest.mark.long
def test_ray_gives_what_one_process_gives(work, monkeypatch, one_thread):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for engine in ("inline", "ray"):
        flames("federate", *PARTS, *SMALL, "--run", engine, "--engine", engine)
    runs = [RunFolder(work / "flames-workspace" / "runs" / engine) for engine in ("inline", "ray")]
    assert_same_state(*(load_state(run.checkpoints) for run in runs))
    records = [[json.loads(line) for line in run.rounds.read_text().splitlines()] for run in runs]
    assert without_timings(records[0]) == without_timings(records[1])


@pytest.mark.federated
def test_without_the_package_every_stage_names_it_and_how_to_get_it(work, isic, example):
    flames("federate", *PARTS, *SMALL, "--run", "fair")
    flames("export", "--run", "fair", "--model", "DERM", "--name", "skin")
    example.uninstall()
    wanted = "flames-example 0.1.0"
    for command in (
        ("federate", *PARTS, *SMALL, "--rounds", "3", "--run", "fair"),
        ("evaluate", "--run", "fair", "--device", "cpu"),
        ("export", "--run", "fair", "--model", "DERM", "--name", "again"),
        ("predict", "--model", "flames-workspace/models/skin", isic / "images", "--out", "masks"),
    ):
        line = fails(*command)
        assert wanted in line, command
        assert "install it (pip install flames-example==0.1.0)" in line
    for command in (
        ("preprocess", "--dataset", "isic2018", "--raw", isic),
        ("federate", *PARTS, *SMALL, "--run", "new"),
    ):
        assert "`flames info --plugins`" in fails(*command)
    assert not (work / "flames-workspace" / "runs" / "new").exists()
    example.install()
    flames("federate", *PARTS, *SMALL, "--rounds", "3", "--run", "fair")


@pytest.mark.federated
@pytest.mark.long
def test_the_own_tests_of_the_package_pass(example, tmp_path):
    shutil.copytree(ROOT / "examples" / "flames-example" / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
