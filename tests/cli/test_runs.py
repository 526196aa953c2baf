import json
import re

import pytest

from flames_cli.cli import runs_command
from flames_cli.cli.render_runs import name_partitions
from flames_cli.cli.text import duration
from flames_cli.stages.runs.listing import list_entries
from tests.support.runs import write_run


def lines_of(result):
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_each_run_has_a_line_of_figures_and_one_of_options(flames, tmp_path):
    write_run(tmp_path, "mine", rounds=3, asked=5, dice=(0.25, 0.5, 0.375), seconds=100.0)
    head, figures, options, note = lines_of(flames("runs", "--workspace", tmp_path))
    assert re.fullmatch(r"run +rounds +best \(round\) +last +time +disk", head)
    assert re.fullmatch(rf"mine +3/5 +0.500 \(2\) +0.375 +{duration(300)} +[\d.]+ (B|KiB)", figures)
    assert options == "  flames, unet, seed 0, partition default, cpu"
    assert note.startswith("best, last: validation Dice")


def test_no_number_and_no_name_is_cut_at_80_columns(flames, tmp_path):
    long = {"asked": 100_000, "dice": (0.25, 0.125), "seconds": 2e6, "strategy": "flames-adaptive"}
    write_run(tmp_path, "x" * 64, rounds=2, **long)
    write_run(tmp_path, "y" * 33, rounds=0)
    lines = lines_of(flames("runs", "--workspace", tmp_path))
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert "x" * 64 in lines
    assert any(re.search(r" 2/100000 +0.250 \(1\) +0.125 +46 days 7 h", line) for line in lines)


def test_a_family_is_one_entry_and_all_its_runs_with_all(flames, tmp_path):
    for seed, dice in ((0, 0.5), (1, 0.75)):
        write_run(tmp_path, f"mine-seed-{seed}", rounds=1, seeds=[0, 1, 2], seed=seed, dice=[dice])
    _, figures, options, _ = lines_of(flames("runs", "--workspace", tmp_path))
    assert re.match(r"mine +2/3 +0.625 +0.625 ", figures)
    assert options == "  flames, unet, seeds 0,1, partition default, cpu, 2 of 3 runs"
    every = lines_of(flames("runs", "--all", "--workspace", tmp_path))
    assert sum(line.startswith("mine-seed-") for line in every) == 2


def test_the_partitions_of_many_folds_are_the_first_and_the_last():
    assert name_partitions([]) == ""
    assert name_partitions(["fold-2", "fold-1"]) == "partitions fold-1, fold-2"
    assert name_partitions(f"fold-{k}" for k in (10, 1, 2)) == "partitions fold-1 to fold-10"


def test_a_damaged_run_is_shown_as_damaged(flames, tmp_path):
    write_run(tmp_path, "mine", rounds=1).config.write_text("[federate", encoding="utf-8")
    shown = " ".join(flames("runs", "--workspace", tmp_path).stdout.split())
    assert "damaged: " in shown
    assert "cannot be read" in shown


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ((), "flames preprocess"),
        (("preprocessed/busi.h5",), "flames partition"),
        (("preprocessed/busi.h5", "partitions/default/partition.json"), "flames federate"),
    ],
)
def test_a_workspace_without_runs_says_which_command_is_next(files, command, flames, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    nothing, following = lines_of(flames("runs", "--workspace", tmp_path))
    assert nothing == f"no run in {tmp_path / 'runs'}"
    assert following == f"next: {command}"


def test_json_lists_every_run(flames, tmp_path):
    write_run(tmp_path, "mine-seed-0", rounds=1, seeds=[0], dice=[0.5])
    found = json.loads(flames("runs", "--json", "--workspace", tmp_path).stdout)
    (run,) = found["runs"]
    assert (run["name"], run["family"], run["last"]) == ("mine-seed-0", "mine", 0.5)
    assert json.loads(flames("runs", "--json", "--workspace", tmp_path / "gone").stdout)["runs"] == []


@pytest.fixture
def asked(flames, monkeypatch):
    """asked("y\\n", "mine"): the command at a terminal, with that answer."""
    from typer.testing import CliRunner

    from flames_cli.cli.app import app
    from tests.support.command_line import PLAIN

    def run(answer, *args):
        monkeypatch.setattr(runs_command, "is_terminal", lambda: True)
        return CliRunner().invoke(app, ["runs", "rm", *map(str, args)], input=answer, env=PLAIN)

    return run


def names_in(workspace):
    return sorted(entry.name for entry in list_entries(workspace))


def test_a_run_is_removed_after_a_yes(asked, tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, f"mine-seed-{seed}", rounds=1, seeds=[0, 1], seed=seed)
    write_run(tmp_path, "other", rounds=1)
    result = asked("y\n", "mine", "--workspace", tmp_path)
    assert result.exit_code == 0
    for shown in (r"mine-seed-0: 1 round, ", r"mine-seed-1: 1 round, ", "2 runs, ", "Remove\\? \\[y/N\\]"):
        assert re.search(shown, result.stderr)
    assert re.match(r"removed mine-seed-0, mine-seed-1: [\d.]+ \w+ of the disk are free again", result.stdout)
    assert names_in(tmp_path) == ["other"]


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_nothing_is_removed_without_a_yes(answer, asked, tmp_path):
    write_run(tmp_path, "mine", rounds=1)
    result = asked(answer, "mine", "--workspace", tmp_path)
    assert result.exit_code == 1
    assert "nothing was removed" in result.stderr
    assert names_in(tmp_path) == ["mine"]


def test_without_a_terminal_runs_are_removed_only_with_yes(flames, error_line, tmp_path):
    write_run(tmp_path, "mine", rounds=1)
    message = error_line("runs", "rm", "mine", "--workspace", tmp_path)
    assert message.startswith("got runs to remove (mine) and no terminal to ask at; pass --yes")
    assert names_in(tmp_path) == ["mine"]
    found = json.loads(flames("runs", "rm", "mine", "--yes", "--json", "--workspace", tmp_path).stdout)
    assert found["removed"] == ["mine"]
    assert names_in(tmp_path) == []


def test_the_workspace_may_also_be_typed_before_rm(flames, tmp_path):
    write_run(tmp_path, "mine", rounds=1)
    assert flames("runs", "--workspace", tmp_path, "rm", "mine", "--yes").exit_code == 0
    assert names_in(tmp_path) == []


def test_an_unknown_run_is_an_error_that_lists_the_known_ones(error_line, tmp_path):
    write_run(tmp_path, "mine", rounds=1)
    message = error_line("runs", "rm", "mien", "--yes", "--workspace", tmp_path, code=3)
    assert "no run 'mien'" in message
    assert "expected one of mine" in message


def test_the_shell_completes_names_of_runs_and_families(flames, monkeypatch, tmp_path):
    write_run(tmp_path / "flames-workspace", "mine-seed-0", rounds=1, seeds=[0])
    write_run(tmp_path / "flames-workspace", "other", rounds=1)
    monkeypatch.setenv("_FLAMES_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "flames runs rm mi")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert flames().stdout.split() == ["mine", "mine-seed-0"]
