"""What a SuperLink is asked, and how its answers are understood."""

import json

import pytest
from flwr.proto.control_pb2 import ListNodesResponse, ListRunsResponse
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.run_pb2 import Run, RunStatus

from flames_cli.errors import FlamesError
from flames_cli.flower.control_api import NodeRecord, RunRecord, list_nodes, list_runs
from flames_cli.flower.processes import free_port

LARGE = 2**64 - 1

NODES = ListNodesResponse(
    nodes_info=[
        NodeInfo(node_id=2, name="b", status="registered", public_key=b"B", registered_at="2026-02-01"),
        NodeInfo(
            node_id=LARGE,
            name="a",
            status="online",
            public_key=b"A",
            registered_at="2026-01-01",
            last_activated_at="2026-01-02",
        ),
    ]
)
RUNS = ListRunsResponse(
    run_dict={
        1: Run(run_id=1, pending_at="1", running_at="2", status=RunStatus(status="running")),
        LARGE: Run(
            run_id=LARGE,
            pending_at="3",
            running_at="4",
            finished_at="5",
            status=RunStatus(status="finished", sub_status="failed", details="why"),
        ),
    }
)


def test_nodes_come_in_the_order_of_their_registration(superlink):
    address = superlink({"/v1/control/list-nodes": (200, NODES.SerializeToString())})

    assert list_nodes(address, None) == [
        NodeRecord(LARGE, "a", "online", b"A", "2026-01-01", "2026-01-02", None),
        NodeRecord(2, "b", "registered", b"B", "2026-02-01", None, None),
    ]


def test_runs_come_newest_first_with_what_became_of_them(superlink):
    address = superlink({"/v1/control/list-runs": (200, RUNS.SerializeToString())})

    assert list_runs(address, None) == [
        RunRecord(LARGE, "finished:failed", "why", "4", "5"),
        RunRecord(1, "running", "", "2", None),
    ]


def test_a_rejected_query_has_flowers_own_reason(superlink):
    body = json.dumps({"code": 16, "detail": "Run ID not found."}).encode()
    address = superlink({"/v1/control/list-runs": (404, body)})

    with pytest.raises(FlamesError, match=r"rejects the query: Run ID not found\."):
        list_runs(address, None, 7)


def test_the_gates_refusal_is_told(superlink):
    address = superlink({"/v1/control/list-nodes": (403, b"nodes may use /v1/fleet")})

    with pytest.raises(FlamesError, match="HTTP status 403"):
        list_nodes(address, None)


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"<html>"])
def test_what_is_no_answer_is_an_error(superlink, body):
    with pytest.raises(FlamesError, match="does not answer"):
        list_nodes(superlink({"/v1/control/list-nodes": (200, body)}), None)


def test_a_server_that_is_not_there_is_an_error():
    with pytest.raises(FlamesError, match="is it running"):
        list_nodes(f"127.0.0.1:{free_port()}", None)


def test_a_proxy_is_not_asked(superlink, monkeypatch):
    address = superlink({"/v1/control/list-nodes": (200, NODES.SerializeToString())})
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")

    assert len(list_nodes(address, None)) == 2
