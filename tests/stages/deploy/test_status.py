"""State of a deployment's sites and runs."""

from typing import Any

import pytest

from flames_cli.errors import FlamesError
from flames_cli.flower import flwr_command as flower_cli
from flames_cli.flower.control_api import NodeRecord, RunRecord
from flames_cli.stages.deploy.status import read_status
from flames_cli.store.files.atomic import write_json


def record(node_id: int, state: str, name: str = "") -> NodeRecord:
    return NodeRecord(node_id, name, state, b"", "2026-01-01", "2026-01-02", "2026-01-03")


@pytest.fixture
def running(monkeypatch) -> Any:
    """running([node, …], secure=True): a server that lists these."""

    class Cli:
        def __init__(self, home: Any, address: str, certificates: Any) -> None:
            self.root_certificates = certificates

        def runs(self) -> list[RunRecord]:
            return [RunRecord(1, "running", "", "2026-01-04", None)]

    def run(nodes: list[NodeRecord], secure: bool = True) -> None:
        monkeypatch.setattr(Cli, "nodes", lambda self: nodes, raising=False)
        monkeypatch.setattr(flower_cli, "FlwrCommand", Cli)
        healthy = lambda address, certificates: (certificates is not None) == secure  # noqa: E731
        monkeypatch.setattr(flower_cli, "is_healthy", healthy)

    return run


def states(deployment: Any) -> list[tuple[str, str, str | None]]:
    return [(site.name, site.state, site.since) for site in read_status(deployment.path).sites]


def test_without_a_server_every_state_is_unknown(deployment):
    write_json(deployment.nodes, {"a": 5})

    found = read_status(deployment.path)

    assert not found.running
    assert [(site.name, site.state) for site in found.sites] == [("a", "unknown"), ("b", "not registered")]
    assert found.runs == ()


def test_each_site_has_the_time_of_its_state(deployment, running):
    write_json(deployment.nodes, {"a": 5, "b": 6})

    running([record(5, "online"), record(6, "offline")])

    assert states(deployment) == [("a", "online", "2026-01-02"), ("b", "offline", "2026-01-03")]
    assert [run.run_ids for run in read_status(deployment.path).runs] == [(1,)]


def test_a_site_that_was_never_online_differs_from_one_that_is_not_registered(deployment, running):
    write_json(deployment.nodes, {"a": 5})

    running([record(5, "registered")])

    assert states(deployment) == [("a", "never online", None), ("b", "not registered", None)]


def test_a_node_without_a_site_is_listed(deployment, running):
    write_json(deployment.nodes, {"a": 5, "b": 6})

    running([record(5, "online"), record(6, "offline"), record(7, "online", "removed")])

    assert states(deployment)[2] == ("removed", "online", "2026-01-02")


def test_an_insecure_server_lists_its_own_nodes_only(deployment, running):
    write_json(deployment.nodes, {"a": 5})

    running([record(9, "online")], secure=False)

    found = read_status(deployment.path)
    assert found.running
    assert not found.secure
    assert states(deployment) == [("(no name)", "online", "2026-01-02")]


def test_a_server_with_another_database_is_an_error(deployment, running):
    write_json(deployment.nodes, {"a": 5, "b": 6})

    running([record(6, "online")])

    with pytest.raises(FlamesError, match="does not know node 5 of a"):
        read_status(deployment.path)
