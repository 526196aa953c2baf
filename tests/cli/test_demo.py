"""`flames demo`, with few patients and rounds."""

import io
import json

import pytest
from rich.console import Console

from flames_cli.cli.demo import _watch
from flames_cli.cli.live import progress_bars
from flames_cli.fed.events import FederationStarted, RoundDone

RECORD = {"round": 1, "seconds": 2.0, "clients": [], "unchanged_groups": []}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("flames_cli.stages.demo.stage.PATIENTS", {"brats": 15, "busi": 8, "otu2d": 8})
    monkeypatch.setattr("flames_cli.stages.demo.stage.BASE_CHANNELS", 2)
    return ("demo", "--size", "32", "--rounds", "1", "--device", "cpu")


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_the_demo_shows_every_stage_and_can_be_run_again(flames, quick, tmp_path):
    result = flames(*quick)
    assert result.exit_code == 0, result.output
    shown = result.stdout
    places = [
        shown.index(text)
        for text in (
            "busi (US, breast)",
            "clients: images (patients)",
            "run 'fedavg': 1 round in",
            "run 'flames': 1 round in",
            "clients, own test patients: flames",
            "server models, unseen patients: flames",
            "modalities separate",
            "every file is in flames-demo",
        )
    ]
    assert places == sorted(places)
    assert result.stderr.count(": round 1/1 in ") == 2
    again = flames(*quick, "--json")
    assert again.exit_code == 0, again.output
    made = json.loads(again.stdout, parse_constant=pytest.fail)
    assert set(made["runs"]) == {"fedavg", "flames"}
    assert made["evaluation"]["run"] == "flames"
    assert made["comparison"]["name"] == "fedavg-vs-flames"
    assert made["tsne"]["folder"] == "flames-demo/maps/pixels"
    assert [path.name for path in tmp_path.iterdir()] == ["flames-demo"]
    assert [path for path in tmp_path.glob("flames-demo/*/*") if "-old-" in path.name] == []


def test_on_a_terminal_each_run_is_a_bar_of_rounds():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with progress_bars(console) as progress:
        watch = _watch(console, progress, "fedavg", 4)
        watch(FederationStarted((), 1, 4))
        watch(RoundDone(RECORD))
    assert "federate fedavg" in console.file.getvalue()
    assert "1/4" in console.file.getvalue()


def test_off_a_terminal_each_round_is_a_line():
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    watch = _watch(console, pytest.fail, "fedavg", 4)
    watch(FederationStarted((), 1, 4))
    watch(RoundDone(RECORD))
    assert console.file.getvalue() == "fedavg: round 1/4 in 2 s\n"


def test_the_demo_does_not_touch_a_workspace_that_is_not_its_own(flames, quick, tmp_path):
    mine = tmp_path / "mine"
    (mine / "preprocessed").mkdir(parents=True)
    result = flames(*quick, "--workspace", str(mine))
    assert result.exit_code == 2
    assert "contains artifacts that are not the demo's; pass another --workspace" in result.stderr
    assert [path.name for path in mine.iterdir()] == ["preprocessed"]
