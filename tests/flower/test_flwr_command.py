"""Requests of a SuperLink's operator, at a SuperLink that is a stub."""

import io
import stat
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.common.serde import user_config_from_proto
from flwr.proto.control_pb2 import (
    ListNodesResponse,
    ListRunsResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    StartRunRequest,
    StartRunResponse,
    StopRunResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run, RunStatus

from flames_cli.errors import FlamesError
from flames_cli.fed.engines.submitted import _write_app
from flames_cli.flower.app_guard import check_fab
from flames_cli.flower.control_api import NodeRecord
from flames_cli.flower.flwr_command import FlwrCommand
from flames_cli.store.deployment.node_keys import make_node_keys


def test_only_its_owner_can_read_the_description_of_a_connection(tmp_path):
    (tmp_path / "ca.crt").write_text("")

    FlwrCommand(tmp_path / "home", "server:9092", tmp_path / "ca.crt")

    config = tmp_path / "home" / "config.toml"
    assert tomllib.loads(config.read_text())["superlink"] == {
        "default": "flames",
        "flames": {"address": "server:9092", "root-certificates": str(tmp_path / "ca.crt")},
    }
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_only_without_certificates_a_connection_is_plain(tmp_path):
    FlwrCommand(tmp_path / "home", "127.0.0.1:9", None)

    config = tomllib.loads((tmp_path / "home" / "config.toml").read_text())
    assert config["superlink"]["flames"] == {"address": "127.0.0.1:9", "insecure": True}


def test_a_run_is_submitted_with_its_configuration_and_an_app_that_the_guard_accepts(superlink, tmp_path):
    started = StartRunResponse(run_id=2**64 - 1)
    address = superlink({"/v1/control/start-run": (200, started.SerializeToString())})
    app = _write_app(tmp_path / "app")

    run_id = FlwrCommand(tmp_path / "home", address, None).submit(
        app, {"job": 'it\'s "x"'}, {"num_supernodes": 3, "client_resources_num_gpus": 0.5}
    )

    assert run_id == 2**64 - 1
    sent = StartRunRequest.FromString(superlink.seen["/v1/control/start-run"])
    assert user_config_from_proto(sent.override_config) == {"job": 'it\'s "x"'}
    assert sent.override_federation_config.num_supernodes == 3
    assert sent.override_federation_config.client_resources_num_gpus == pytest.approx(0.5)
    assert check_fab(sent.fab.content).name == "flames-federation"
    with zipfile.ZipFile(io.BytesIO(sent.fab.content)) as archive:
        assert archive.read("pyproject.toml") == (app / "pyproject.toml").read_bytes()


def test_a_run_that_is_rejected_has_flowers_own_reason(superlink, tmp_path):
    address = superlink({"/v1/control/start-run": (400, b'{"detail": "the app is too large"}')})

    with pytest.raises(FlamesError, match="rejects the query: the app is too large"):
        FlwrCommand(tmp_path / "home", address, None).submit(_write_app(tmp_path / "app"), {})


def test_a_run_that_is_not_started_has_flowers_note(superlink, tmp_path):
    answer = StartRunResponse(note="no place is free").SerializeToString()
    address = superlink({"/v1/control/start-run": (200, answer)})

    with pytest.raises(FlamesError, match="does not start the run: no place is free"):
        FlwrCommand(tmp_path / "home", address, None).submit(_write_app(tmp_path / "app"), {})


@pytest.mark.parametrize("success", [True, False])
def test_a_run_is_stopped_or_not(success, superlink, tmp_path):
    answer = StopRunResponse(success=success).SerializeToString()
    cli = FlwrCommand(tmp_path / "home", superlink({"/v1/control/stop-run": (200, answer)}), None)

    if success:
        cli.stop(7)
    else:
        with pytest.raises(FlamesError, match="does not stop run 7; has it ended"):
            cli.stop(7)


@pytest.fixture
def key(tmp_path) -> Path:
    make_node_keys(tmp_path / "node.key", tmp_path / "node.pub")
    return tmp_path / "node.pub"


def node(key: Path, status: str = "online") -> NodeRecord:
    """A node with this key, as a SuperLink lists it."""
    from flwr.cli.supernode.register import try_load_public_key

    return NodeRecord(5, "a", status, try_load_public_key(key), "2026-01-01", None, None)


def test_a_new_key_is_registered_by_name(superlink, key, tmp_path):
    address = superlink(
        {
            "/v1/control/list-nodes": (200, ListNodesResponse().SerializeToString()),
            "/v1/control/register-node": (200, RegisterNodeResponse(node_id=11).SerializeToString()),
        }
    )

    assert FlwrCommand(tmp_path / "home", address, None).register(key, "hospital-a") == 11
    sent = RegisterNodeRequest.FromString(superlink.seen["/v1/control/register-node"])
    assert (sent.name, sent.public_key) == ("hospital-a", node(key).public_key)


def test_a_key_that_is_not_registered_is_named(superlink, key, tmp_path):
    address = superlink(
        {
            "/v1/control/list-nodes": (200, ListNodesResponse().SerializeToString()),
            "/v1/control/register-node": (200, RegisterNodeResponse().SerializeToString()),
        }
    )

    with pytest.raises(FlamesError, match="does not register hospital-a"):
        FlwrCommand(tmp_path / "home", address, None).register(key, "hospital-a")


def test_a_known_key_is_not_registered_again(superlink, key, tmp_path, monkeypatch):
    monkeypatch.setattr(FlwrCommand, "nodes", lambda self: [node(key)])

    assert FlwrCommand(tmp_path / "home", superlink({}), None).register(key, "hospital-a") == 5


def test_a_key_is_removed_once(superlink, tmp_path):
    nodes = ListNodesResponse(nodes_info=[NodeInfo(node_id=5, name="a", status="online")])
    address = superlink(
        {
            "/v1/control/list-nodes": (200, nodes.SerializeToString()),
            "/v1/control/unregister-node": (200, UnregisterNodeResponse().SerializeToString()),
        }
    )
    cli = FlwrCommand(tmp_path / "home", address, None)

    cli.unregister(6)
    assert "/v1/control/unregister-node" not in superlink.seen
    cli.unregister(5)
    assert UnregisterNodeRequest.FromString(superlink.seen["/v1/control/unregister-node"]).node_id == 5


def test_the_error_for_a_file_without_a_key_names_it(tmp_path):
    (tmp_path / "node.pub").write_text("ssh-ed25519 AAAA x")

    with pytest.raises(FlamesError, match=r"node\.pub"):
        FlwrCommand(tmp_path / "home", "127.0.0.1:9", None).register(tmp_path / "node.pub", "a")


def test_a_runs_status_comes_with_its_details(superlink, tmp_path):
    status = RunStatus(status="finished", sub_status="failed", details="why")
    runs = ListRunsResponse(run_dict={7: Run(run_id=7, status=status)})
    address = superlink({"/v1/control/list-runs": (200, runs.SerializeToString())})

    assert FlwrCommand(tmp_path / "home", address, None).run_status(7) == ("finished:failed", "why")
