"""`flames compare` on the command line."""

import click
import pytest
import typer

from flames_cli.cli.app import app
from flames_cli.config import CompareConfig, load_section

COMPARE = typer.main.get_command(app).commands["compare"]


@pytest.fixture
def asked(monkeypatch, flames):
    """asked("a", "b", "--metric", "iou"): the options with which the stage is called."""

    def run(*args):
        seen = []
        monkeypatch.setattr(
            "flames_cli.stages.compare.stage.compare", lambda options, _: seen.append(options) or stop()
        )
        result = flames("compare", *args)
        assert result.exit_code == 0, result.output
        return seen[0]

    return run


def stop():
    raise typer.Exit


def test_runs_are_typed_without_an_option(asked):
    made = asked("flames", "fedavg", "local", "--metric", "iou", "--metric", "hd95", "--detail")
    assert made.runs == ("flames", "fedavg", "local")
    assert made.metrics == ("iou", "hd95")
    assert made.detail


def test_runs_may_be_in_the_file_and_typed_ones_win(asked, tmp_path):
    file = tmp_path / "flames.toml"
    file.write_text('[compare]\nruns = ["a", "b"]\nmetrics = ["iou"]\n')
    assert load_section(CompareConfig, {}, file).runs == ("a", "b")
    assert asked("--config", file).runs == ("a", "b")
    assert asked("c", "--config", file).runs == ("c",)


def test_no_run_and_a_repeated_run_are_rejected(error_line):
    assert error_line("compare").startswith("got no run to compare, expected one or more; name them")
    assert "runs: runs should differ; a is repeated" in error_line("compare", "a", "b", "a")
    assert "metric 'f1' is not known" in error_line("compare", "a", "--metric", "f1")


def test_a_run_that_does_not_exist_is_rejected(error_line, tmp_path):
    line = error_line("compare", "flames", "--workspace", tmp_path, code=3)
    assert line.startswith("no run 'flames' in")


def test_the_shell_completes_runs_families_and_evaluations(tmp_path):
    for name in ("flames", "flames-tta-flips", ".flames.tmp"):
        (tmp_path / "evaluations" / name).mkdir(parents=True)
        (tmp_path / "evaluations" / name / "evaluation.json").touch()
    for name in ("fedavg", "flames-seed-0", "flames-seed-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.toml").touch()
    context = click.Context(COMPARE, info_name="compare")
    context.params = {"workspace": str(tmp_path)}
    (argument,) = (one for one in COMPARE.get_params(context) if one.name == "runs")
    assert [item.value for item in argument.shell_complete(context, "fl")] == [
        "flames",
        "flames-seed-0",
        "flames-seed-1",
        "flames-tta-flips",
    ]


def test_help_explains_the_runs(flames):
    shown = " ".join(flames("compare", "--help").output.replace("│", " ").split())
    assert "the first is the reference" in shown
    assert "[RUN…]" in shown
