"""Output of `flames deploy status` in a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from flames_cli.cli.deploy.status import _print_status
from flames_cli.stages.deploy.run_status import RunStatus
from flames_cli.stages.deploy.status import DeploymentStatus, SiteStatus

RUN = RunStatus(
    name="flames",
    state="running: round 14",
    run_ids=(14193742046773108372,),
    began="2026-01-04T00:00:00",
    strategy="flames-adaptive",
    round=13,
    rounds=50,
    clients_in=("a", "b"),
    clients_out=("hospital-c",),
    dice=0.5123,
    dice_round=12,
    last_round="2026-01-04T01:02:03.5+00:00",
    seconds_a_round=3601.4,
)


@pytest.fixture
def show():
    def render(*runs):
        stream = io.StringIO()
        sites = (SiteStatus("hospital-a", 14986785811460786706, "online", "2026-01-02T03:04:05"),)
        found = DeploymentStatus("localhost:9092", True, True, sites, runs)
        _print_status(Console(file=stream, width=80), found)
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        return lines

    return render


def test_a_run_is_shown_by_its_name_with_its_figures(show):
    lines = show(RUN)
    row = next(line for line in lines if line.startswith("flames "))
    assert row.split() == [
        *("flames", "flames-adaptive", "13", "of", "50", "2", "of", "3", "0.512", "3601"),
        *("2026-01-04", "01:02"),
    ]
    assert "  running: round 14" in lines
    assert "  not in the last round: hospital-c" in lines
    assert "14193742046773108372" not in "".join(lines)


def test_a_long_name_has_a_line_of_its_own(show):
    name = "x" * 64
    lines = show(RunStatus(name, "finished", (1,), None), RUN)
    assert name in lines


def test_a_run_that_is_not_known_has_flowers_complete_number(show):
    lines = show(RunStatus("", "finished; its name is not known", (14193742046773108372,), None))
    assert "(not known)" in "".join(lines)
    assert any(line.endswith("14193742046773108372") for line in lines)


def test_a_name_with_control_characters_does_not_steer_the_terminal(show):
    assert "\x1b" not in "".join(show(RunStatus("a\x1b[2J", "finished\x1b[2J", (1,), None)))
