"""`flames demo`, with few patients and rounds."""

import io
import json
import re

import pytest
from rich.console import Console

from flames_cli.cli.demo import Screen
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
            "Dice: clients' models on their own test sets",
            "Dice: server models on unseen patients",
            "open: flames-demo/reports/flames-vs-fedavg/report.html",
            "flames export --run flames --model MRI",
            "flames predict --run flames --modality MRI flames-demo/new-images/brain.nii.gz",
            "every file is in flames-demo",
        )
    ]
    assert places == sorted(places)
    assert len(shown.splitlines()) <= 45, "one screen"
    assert max(map(len, shown.splitlines())) <= 80
    for command in re.findall(r"flames (?:predict|export) .*", shown):
        assert flames(*command.split()[1:], "--workspace", "flames-demo").exit_code == 0, command
    assert result.stderr.count(": round 1/1 in ") == 2
    again = flames(*quick, "--json")
    assert again.exit_code == 0, again.output
    made = json.loads(again.stdout, parse_constant=pytest.fail)
    assert set(made["runs"]) == {"fedavg", "flames"}
    assert made["evaluation"]["run"] == "flames"
    assert made["comparison"]["name"] == "fedavg-vs-flames"
    assert made["report"]["page"] == "flames-demo/reports/flames-vs-fedavg/report.html"
    assert made["tsne"]["folder"] == "flames-demo/maps/pixels"
    assert [path.name for path in tmp_path.iterdir()] == ["flames-demo"]
    assert [path for path in tmp_path.glob("flames-demo/*/*") if "-old-" in path.name] == []


def test_on_a_terminal_the_live_table_takes_the_place_of_the_bars():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with Screen(console) as screen:
        screen("draw phantoms", 1, 3)
        with screen.watch("fedavg") as watch:
            watch(FederationStarted((("busi", "US", 9),), 1, 4))
            watch(RoundDone(RECORD))
        screen("evaluate", 1, 3)
    written = console.file.getvalue()
    places = [written.index(text) for text in ("draw phantoms", "fedavg: round 1 of 4", "busi", "evaluate")]
    assert places == sorted(places)


def test_off_a_terminal_each_round_is_a_line():
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    with Screen(console) as screen, screen.watch("fedavg") as watch:
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
