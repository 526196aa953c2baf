"""A whole study through the command line, on phantoms; and how commands end."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flames_cli import __version__
from tests.support.command_line import SMALL_FEDERATION, shell_environment

STAGES = ("preprocess", "partition", "federate", "evaluate", "tsne")


@pytest.fixture(scope="module")
def studied(phantom_raw, tmp_path_factory):
    """A folder whose name no shell likes, filled by the stages' tests in their order."""
    return tmp_path_factory.mktemp("a study") / "ünï [bold] (1)"


def reported(result):
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_a_whole_study_runs_by_its_commands(flames, studied, phantom_raw):
    """One test, because each stage reads the last one's files."""
    at = ("--workspace", studied)
    for name in ("brats", "busi"):
        result = flames("preprocess", "--dataset", name, "--raw", phantom_raw[name], "--size", 32, *at)
        assert result.exit_code == 0, result.output
        assert "client_train" in result.stdout
        assert result.stdout.endswith(f"→ {studied}/preprocessed/{name}.h5\n")
    otu2d = phantom_raw["otu2d"]
    report = reported(flames("preprocess", "--dataset", "otu2d", "--raw", otu2d, "--size", 32, *at, "--json"))
    assert report["sets"]["client_train"]["patients"] == 9

    result = flames("partition", *at)
    assert result.exit_code == 0, result.output
    assert "every shard read back: no named patient is in two sets" in result.stdout
    assert "busi, otu2d name no patients" in " ".join(result.stdout.split())
    again = reported(flames("partition", "--overwrite", *at, "--json"))
    clients = ["brats-1", "brats-2", "brats-3", "busi", "otu2d"]
    assert [client["name"] for client in again["clients"]] == clients

    result = flames("federate", "--strategy", "fedavg", *SMALL_FEDERATION, "--rounds", 2, *at)
    assert result.exit_code == 0, result.output
    assert "fedavg: round 2/2 in " in result.stderr
    assert "run 'fedavg': 2 rounds in " in result.stdout
    run = reported(flames("federate", *SMALL_FEDERATION, "--rounds", 2, *at, "--json"))
    assert (run["run"], run["resumed_from"], len(run["rounds"])) == ("flames", 0, 2)
    assert run["rounds"][1]["accepted"] == clients
    result = flames("federate", *SMALL_FEDERATION, "--rounds", 2, *at)
    assert "run 'flames' has 2 rounds already, 2 were asked for" in result.stdout

    result = flames("evaluate", *at)
    assert result.exit_code == 0, result.output
    assert "clients, own test patients: flames (flames, round 2)" in result.stdout
    assert "server models, unseen patients: flames" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-2])) <= 80
    scores = reported(flames("evaluate", "--run", "fedavg", "--client-test", "--no-overlays", *at, "--json"))
    assert [row["model"] for row in scores["tables"]["clients"]] == clients
    assert "server" not in scores["tables"]
    assert scores["name"] == "fedavg-client-test"

    result = flames("tsne", *at)
    assert result.exit_code == 0, result.output
    assert "modalities separate with silhouette" in result.stdout
    made = reported(flames("tsne", "--features", "deep", "--run", "fedavg", *at, "--json"))
    assert (made["features"], made["run"]) == ("deep", "fedavg")

    result = flames("info", *at)
    assert result.exit_code == 0, result.output
    assert "fedavg, flames" in result.stdout
    found = reported(flames("info", *at, "--json"))
    assert found["workspace"]["runs"] == ["fedavg", "flames"]
    assert found["workspace"]["preprocessed"] == ["brats", "busi", "otu2d"]


@pytest.mark.federated
@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_federation_resumes_with_the_same_command(flames, tiny, tmp_path):
    space = tiny()
    command = ("federate", *SMALL_FEDERATION, "--workspace", str(space), "--rounds", "200")
    with subprocess.Popen(
        [sys.executable, "-m", "flames_cli", *command, "--json"],
        cwd=tmp_path,
        env=shell_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr.readline().startswith("flames: round 1/200 in ")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    line = (
        "interrupted; run the same command again (a federation without --fresh continues after its last "
        "complete round)"
    )
    assert stderr.endswith(f"error: {line}\n")
    assert "Traceback" not in stderr
    assert json.loads(stdout) == {"error": line, "exit_code": 130}
    done = len((space / "runs" / "flames" / "rounds.jsonl").read_text().splitlines())
    run = reported(flames(*command[:-1], done + 1, "--json"))
    assert run["resumed_from"] == done
    assert [record["round"] for record in run["rounds"]] == list(range(1, done + 2))


def test_several_data_sets_are_one_json_list(flames, phantom_raw, tmp_path):
    raw = tmp_path / "flames-workspace" / "raw"
    raw.mkdir(parents=True)
    for name in ("busi", "otu2d"):
        (raw / name).symlink_to(phantom_raw[name])
    command = ("preprocess", "--dataset", "busi", "--dataset", "otu2d", "--dataset", "busi", "--size", 32)
    reports = reported(flames(*command, "--json"))
    assert [report["dataset"] for report in reports] == ["busi", "otu2d"]


def test_the_environment_names_the_workspace(shell, tmp_path):
    result = shell("partition", FLAMES_WORKSPACE=str(tmp_path / "mine"))
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith(f"error: no data set in {tmp_path / 'mine' / 'preprocessed'};")


def test_only_json_is_written_to_stdout(shell, phantom_raw):
    result = shell("preprocess", "--dataset", "busi", "--raw", phantom_raw["busi"], "--size", 32, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["dataset"] == "busi"
    assert result.stderr == ""


def test_a_log_without_unicode_does_not_stop_a_command(shell, phantom_raw):
    result = shell(
        "preprocess",
        "--dataset",
        "busi",
        "--raw",
        phantom_raw["busi"],
        "--size",
        32,
        PYTHONIOENCODING="ascii",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("? flames-workspace/preprocessed/busi.h5\n")


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    command = [sys.executable, "-m", "flames_cli", "--version"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=shell_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert b"error:" not in process.stderr.read()


def test_the_version_is_printed(flames):
    assert flames("--version").stdout == f"flames {__version__}\n"


def test_help_names_every_stage_in_its_order(flames):
    shown = flames("--help").stdout
    places = [shown.index(f"│ {stage} ") for stage in STAGES]
    assert places == sorted(places)
    assert flames("-h").stdout == shown


@pytest.mark.parametrize("name", [*STAGES, "demo", "info"])
def test_help_of_a_command_fits_80_columns(name, flames):
    result = flames(name, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_flames_alone_shows_its_help(flames):
    result = flames()
    assert "Usage: flames" in result.output
    assert "error:" not in result.output


def test_a_shell_completes_commands_and_options(flames, monkeypatch):
    monkeypatch.setenv("_FLAMES_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "flames fed")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert flames().stdout.split() == ["federate"]
    monkeypatch.setenv("COMP_WORDS", "flames federate --ro")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert flames().stdout.split() == ["--rounds", "--rounds-by", "--round-timeout"]
    monkeypatch.setenv("COMP_WORDS", "flames deploy sta")
    assert flames().stdout.split() == ["status"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("flames federate --device c", ["cpu", "cuda"]),
        ("flames federate --strategy fedavg", ["fedavg", "fedavg-modality"]),
        ("flames federate --model sd", ["sd-utnet", "sdnet"]),
        ("flames preprocess --dataset msd", ["msd-liver", "msd-lung", "msd-pancreas"]),
        ("flames federate --track m", ["mlflow"]),
        ("flames evaluate --run s", ["second"]),
        ("flames federate --resume s", ["second"]),
    ],
)
def test_a_shell_completes_values(typed, completed, flames, monkeypatch, tmp_path):
    for name in ("first", "second"):
        (tmp_path / "flames-workspace" / "runs" / name).mkdir(parents=True)
        (tmp_path / "flames-workspace" / "runs" / name / "config.toml").touch()
    monkeypatch.setenv("_FLAMES_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", "3")
    assert flames().stdout.split() == completed


def test_an_internal_error_is_one_line_that_asks_for_a_report(flames, monkeypatch):
    monkeypatch.setattr("flames_cli.stages.info.stage.info", fail_with(RuntimeError("two\nlines")))
    result = flames("info")
    assert result.exit_code == 1
    assert result.stdout == ""
    expected = "internal error (RuntimeError: two lines); run again with `flames --debug …` and report it"
    assert result.stderr == f"error: {expected}\n"
    assert json.loads(flames("info", "--json").stdout) == {"error": expected, "exit_code": 1}


def test_an_interruption_ends_with_130(flames, monkeypatch):
    monkeypatch.setattr("flames_cli.stages.info.stage.info", fail_with(KeyboardInterrupt()))
    result = flames("info")
    assert result.exit_code == 130
    assert result.stderr.startswith("error: interrupted; run the same command again")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/there"), OSError(28, "No space")]
)
def test_an_error_of_the_operating_system_is_a_user_error(error, error_line, monkeypatch):
    monkeypatch.setattr("flames_cli.stages.info.stage.info", fail_with(error))
    message = error_line("info")
    assert error.strerror in message
    assert (error.filename or "") in message


@pytest.mark.parametrize("words", [("--debug", "partition"), ("partition", "--debug")])
def test_debug_adds_the_traceback_and_keeps_the_exit_code(shell, words):
    result = shell(*words)
    assert result.returncode == shell("partition").returncode == 3
    assert "Traceback" in result.stderr
    assert "MissingArtifact: no data set in" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: no data set in")


def test_debug_keeps_the_exit_code_of_an_internal_error_and_its_json(flames, monkeypatch):
    monkeypatch.setattr("flames_cli.stages.info.stage.info", fail_with(RuntimeError("here")))
    result = flames("info", "--json", "--debug")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["exit_code"] == 1
    assert "raise error\nRuntimeError: here\nerror: internal error" in result.stderr


def test_after_two_dashes_debug_is_a_file(error_line):
    assert "--debug" in error_line("models", "show", "--", "--debug", code=3)


def test_info_says_that_its_workspace_does_not_exist(flames, tmp_path):
    shown = flames("info", "--workspace", "gone").stdout
    assert re.search(r"workspace +gone: there is no such folder", shown)
    assert not (tmp_path / "gone").exists()
    assert json.loads(flames("info", "--workspace", "gone", "--json").stdout)["workspace"]["exists"] is False
    assert "no such folder" not in flames("info", "--workspace", tmp_path).stdout


def fail_with(error):
    def fail(*args):
        raise error

    return fail


def test_exit_codes_reach_the_shell(shell, tmp_path):
    assert shell("--version").returncode == 0
    assert shell("federate", "--rounds", "0").returncode == 2
    missing = shell("partition", "--json")
    assert missing.returncode == 3
    assert json.loads(missing.stdout)["exit_code"] == 3
    assert "flames preprocess" in missing.stderr
    assert not Path(tmp_path / "flames-workspace").exists()
