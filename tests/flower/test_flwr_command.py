"""Flower's command line as a subprocess, replaced by a stub."""

import json
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower import flwr_command as flower_cli
from flames_cli.flower.control_api import NodeRecord
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.store.deployment.node_keys import make_node_keys

STAND_IN = """
import json, os, pathlib, sys
pathlib.Path({seen!r}).write_text(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))
sys.stdout.write({answer!r})
sys.stderr.write({error!r})
"""

Seen = Callable[[], tuple[list[str], str, dict[str, str]]]


@pytest.fixture
def flwr(tmp_path, monkeypatch) -> Callable[..., Seen]:
    """flwr(answer, error=""): set the output of `flwr`; returns the arguments that it gets."""
    monkeypatch.setattr(flower_cli, "MODULE", "flwr_stand_in")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    seen = tmp_path / "seen.json"

    def answer(answer: Any, error: str = "") -> Seen:
        text = answer if isinstance(answer, str) else json.dumps(answer, indent=2)
        content = STAND_IN.format(seen=str(seen), answer=text, error=error)
        (tmp_path / "flwr_stand_in.py").write_text(content)
        return lambda: tuple(json.loads(seen.read_text()))

    return answer


@pytest.fixture
def cli(tmp_path) -> FlwrCommand:
    return FlwrCommand(tmp_path / "home", "127.0.0.1:9", None)


def test_only_its_owner_can_read_the_description_of_a_connection(tmp_path):
    (tmp_path / "ca.crt").write_text("")

    FlwrCommand(tmp_path / "home", "server:9092", tmp_path / "ca.crt")

    config = tmp_path / "home" / "config.toml"
    assert tomllib.loads(config.read_text())["superlink"] == {
        "default": "flames",
        "flames": {"address": "server:9092", "root-certificates": str(tmp_path / "ca.crt")},
    }
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_only_without_certificates_a_connection_is_plain(cli):
    config = tomllib.loads((cli.home / "config.toml").read_text())

    assert config["superlink"]["flames"] == {"address": "127.0.0.1:9", "insecure": True}


def test_a_run_is_submitted_with_its_configuration(flwr, cli, tmp_path):
    from flwr.common.config import parse_config_args

    seen = flwr({"success": True, "run-id": str(2**64 - 1)})

    assert cli.submit(tmp_path, {"job": 'it\'s "x"'}, {"num-supernodes": 3, "gpus": 0.5}) == 2**64 - 1
    arguments, folder, environment = seen()
    assert arguments[:3] == ["run", str(tmp_path), "flames"]
    assert arguments[-2:] == ["--format", "json"]
    assert parse_config_args([arguments[arguments.index("--run-config") + 1]]) == {"job": 'it\'s "x"'}
    federation = arguments[arguments.index("--federation-config") + 1]
    assert parse_config_args([federation]) == {"num-supernodes": 3, "gpus": 0.5}
    assert Path(folder) == cli.home
    assert environment["FLWR_HOME"] == str(cli.home)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_a_failure_with_status_0_has_flowers_own_reason(flwr, cli, tmp_path):
    said = "Using SuperLink: flames (127.0.0.1:9)\n\nConnection to the SuperLink is unavailable.\nCheck it."
    flwr({"success": False, "error-message": said})

    with pytest.raises(FlamesError) as caught:
        cli.submit(tmp_path, {})
    assert str(caught.value) == "`flwr run` failed: Connection to the SuperLink is unavailable. Check it."


@pytest.mark.parametrize("answer", ["", "no json", "{", "[]", '{"success": "true"}', "null"])
def test_what_is_no_answer_is_a_failure(flwr, cli, tmp_path, answer):
    flwr(answer, error="╭─ Error ─╮\n│ No such option: -x │\n╰─────────╯\n")

    with pytest.raises(FlamesError, match=r"No such option: -x$"):
        cli.stop(7)


def test_words_before_the_answer_do_not_hide_it(flwr, cli):
    flwr('\nFlower configuration not found.\n{"success": true}')

    cli.stop(7)


def test_a_program_that_is_not_there_is_a_failure(cli, monkeypatch):
    monkeypatch.setattr(flower_cli, "MODULE", "no_such_module_here")

    with pytest.raises(FlamesError, match="No module named"):
        cli.stop(7)


def test_a_program_that_hangs_is_a_failure(flwr, tmp_path):
    cli = FlwrCommand(tmp_path / "home", "127.0.0.1:9", None, seconds=0.5)
    (tmp_path / "flwr_stand_in.py").write_text("import time; time.sleep(60)")

    with pytest.raises(FlamesError, match="did not end"):
        cli.stop(7)


@pytest.fixture
def key(tmp_path) -> Path:
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    return tmp_path / "node.pub"


def node(key: Path, status: str = "online") -> NodeRecord:
    """A node with this key, as a SuperLink lists it."""
    from flwr.cli.supernode.register import try_load_public_key

    return NodeRecord(5, "a", status, try_load_public_key(key), "2026-01-01", None, None)


def test_a_new_key_is_registered_by_name(flwr, cli, key, monkeypatch):
    seen = flwr({"success": True, "node-id": 11})
    monkeypatch.setattr(FlwrCommand, "nodes", lambda self: [])

    assert cli.register(key, "hospital-a") == 11
    assert seen()[0][:4] == ["supernode", "register", str(key), "flames"]
    assert seen()[0][4:6] == ["--name", "hospital-a"]


def test_a_known_key_is_not_registered_again(cli, key, monkeypatch):
    monkeypatch.setattr(flower_cli, "MODULE", "no_such_module_here")
    monkeypatch.setattr(FlwrCommand, "nodes", lambda self: [node(key)])

    assert cli.register(key, "hospital-a") == 5


def test_the_error_for_a_file_without_a_key_names_it(cli, tmp_path):
    (tmp_path / "node.pub").write_text("ssh-ed25519 AAAA x")

    with pytest.raises(FlamesError, match=r"node\.pub"):
        cli.register(tmp_path / "node.pub", "a")


def test_a_runs_status_comes_with_its_details(superlink, tmp_path):
    from flwr.proto.control_pb2 import ListRunsResponse
    from flwr.proto.run_pb2 import Run, RunStatus

    status = RunStatus(status="finished", sub_status="failed", details="why")
    runs = ListRunsResponse(run_dict={7: Run(run_id=7, status=status)})
    address = superlink({"/v1/control/list-runs": (200, runs.SerializeToString())})

    assert FlwrCommand(tmp_path, address, None).run_status(7) == ("finished:failed", "why")
