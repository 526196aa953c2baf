"""`flames deploy server`, `node` and `status` as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest

from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy import node as node_stage
from flames_cli.stages.deploy import server as server_stage
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.store.files.atomic import write_json
from flames_cli.store.workspace import partition_folder


@pytest.fixture
def deployed(tmp_path, flames) -> Any:
    """A deployment in the standard folder."""
    return init_deployment(Path("flames-deployment"), "localhost", free_port(), ["a", "b"], 825)


@pytest.fixture(scope="module")
def shard(workspace) -> Path:
    return Path(partition_folder(workspace()) / "shards" / "busi.h5")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_status_says_that_no_server_runs_and_who_is_registered(flames, deployed):
    write_json(deployed.nodes, {"a": 2**64 - 1})

    said = flames("deploy", "status").stdout

    assert "no server runs on this machine" in said
    assert "`flames deploy server`" in said
    assert str(2**64 - 1) in said
    assert "not registered" in said


def test_status_as_json_has_every_site(flames, deployed):
    found = json.loads(flames("deploy", "status", "--json").stdout)

    assert found["running"] is False
    assert [site["name"] for site in found["sites"]] == ["a", "b"]
    assert found["superlink"] == deployed.superlink


def test_a_server_shows_the_next_steps_once_it_is_ready(flames, deployed, monkeypatch):
    def serve(path, bind, insecure, tell, on_ready) -> None:
        assert (path, bind, insecure) == (Path("flames-deployment"), None, False)
        tell("ready")
        on_ready()

    monkeypatch.setattr(server_stage, "serve", serve)

    result = flames("deploy", "server")

    assert result.exit_code == 0
    assert "INSECURE" not in result.stderr
    first, second, *_ = result.stdout.splitlines()
    assert first.endswith(" ready")
    assert "flames deploy node --shard" in second
    assert "--engine superlink" in result.stdout


def test_an_insecure_server_is_shouted_about(flames, deployed, monkeypatch):
    monkeypatch.setattr(server_stage, "serve", lambda *_: None)

    said = flames("deploy", "server", "--insecure").stderr

    assert "INSECURE" in said
    assert "never with patients' data" in flat(said)


def test_a_server_without_a_deployment_names_the_command_that_makes_one(error_line):
    assert "flames deploy init" in error_line("deploy", "server", code=3)


def test_a_name_is_no_address_to_listen_at(error_line, deployed):
    assert "--bind" in error_line("deploy", "server", "--bind", "localhost")


def test_a_node_says_what_it_is_and_what_leaves_it(flames, deployed, shard, monkeypatch):
    joined: list[Any] = []
    monkeypatch.setattr(node_stage, "join", lambda *arguments: joined.append(arguments))

    result = flames(
        "deploy", "node", "--site", deployed.site("a").path, "--shard", shard, "--min-examples", 2
    )

    said = flat(result.stdout)
    assert result.exit_code == 0, result.output
    assert "site a: US, breast" in said
    assert "takes part with 2 or more" in said
    assert "counts and mean scores;" in said
    (site, settings, insecure, _), *_ = joined
    assert site.name == settings.client == "a"
    assert settings.min_examples == 2
    assert not insecure


def test_a_node_that_sends_every_score_reports_it(flames, deployed, shard, monkeypatch):
    monkeypatch.setattr(node_stage, "join", lambda *_: None)

    said = flames("deploy", "node", "--site", deployed.site("a").path, "--shard", shard, "--per-case").stdout

    assert "every test case's score" in flat(said)


def test_an_insecure_node_is_named_after_its_shard_and_shouted_about(flames, shard, monkeypatch):
    joined: list[Any] = []
    monkeypatch.setattr(node_stage, "join", lambda *arguments: joined.append(arguments))

    result = flames("deploy", "node", "--insecure", "--superlink", "localhost:9092", "--shard", shard)

    assert "INSECURE" in result.stderr
    assert joined[0][0].name == "busi"
    assert joined[0][2] is True


def test_a_node_without_its_folder_names_the_folder(error_line, shard):
    assert "--site" in error_line("deploy", "node", "--shard", shard, code=3)


def test_a_shard_that_cannot_be_read_is_reported_first(error_line, deployed, tmp_path):
    (tmp_path / "broken.h5").write_bytes(b"no HDF5")

    assert "broken.h5" in error_line(
        "deploy", "node", "--site", deployed.site("a").path, "--shard", "broken.h5"
    )


@pytest.mark.parametrize("wrong", [("--min-examples", "0"), ("--superlink", "server")])
def test_a_wrong_option_of_a_node_ends_in_one_line(wrong, error_line, deployed, shard):
    error_line("deploy", "node", "--site", deployed.site("a").path, "--shard", shard, *wrong)
