"""Queries of a SuperLink's nodes and runs.

They use the protocol of Flower's command line directly: the start of that command takes more than a second,
and its output does not contain the names and keys of nodes.
"""

import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.proto.control_pb2 import ListNodesRequest, ListNodesResponse, ListRunsRequest, ListRunsResponse
from flwr.proto.node_pb2 import NodeInfo
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from flames_cli.errors import FlamesError
from flames_cli.flower.health import connect
from flames_cli.store.files.parse import parse_json

Answer = TypeVar("Answer", bound=Message)

UNREGISTERED = "unregistered"
"""Status of a node whose key was removed from the SuperLink."""

SECONDS = 30.0
"""Longest time to wait for an answer."""
PROTOBUF = {"content-type": "application/protobuf", "accept": "application/protobuf"}


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node that the SuperLink knows. Times are ISO 8601 in UTC; None if that has not happened."""

    node_id: int
    name: str
    status: str
    """`registered` (never connected), `online`, `offline` or `unregistered`."""
    public_key: bytes
    """PEM."""
    registered_at: str | None
    online_at: str | None
    offline_at: str | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that the SuperLink knows. Times are ISO 8601 in UTC; None if that has not happened."""

    run_id: int
    status: str
    """`pending`, `starting`, `running`, `finished:completed`, `finished:failed` or `finished:stopped`."""
    details: str
    """Reason of a failure; may be empty."""
    started_at: str | None
    finished_at: str | None


def list_nodes(address: str, root_certificates: Path | None) -> list[NodeRecord]:
    """Return every node of the SuperLink at `address`, sorted by time of registration.

    Raises:
        FlamesError: it does not answer, or it rejects the query.
    """
    response = _ask(address, root_certificates, "list-nodes", ListNodesRequest(), ListNodesResponse())
    return [_node(info) for info in sorted(response.nodes_info, key=lambda info: str(info.registered_at))]


def list_runs(address: str, root_certificates: Path | None, run_id: int | None = None) -> list[RunRecord]:
    """Return run `run_id`, or the newest runs, of the SuperLink at `address`, newest first.

    Raises:
        FlamesError: it does not answer, or it rejects the query, as it does for an unknown run.
    """
    request = ListRunsRequest() if run_id is None else ListRunsRequest(run_id=run_id)
    response = _ask(address, root_certificates, "list-runs", request, ListRunsResponse())
    runs = sorted(response.run_dict.values(), key=lambda run: str(run.pending_at), reverse=True)
    return [
        RunRecord(
            run.run_id,
            ":".join(part for part in (run.status.status, run.status.sub_status) if part),
            run.status.details,
            run.running_at or None,
            run.finished_at or None,
        )
        for run in runs
    ]


def _node(info: NodeInfo) -> NodeRecord:
    return NodeRecord(
        node_id=info.node_id,
        name=info.name,
        status=info.status,
        public_key=info.public_key,
        registered_at=info.registered_at or None,
        online_at=info.last_activated_at or None,
        offline_at=info.last_deactivated_at or None,
    )


def _ask(
    address: str, root_certificates: Path | None, question: str, request: Message, answer: Answer
) -> Answer:
    try:
        connection = connect(address, root_certificates, SECONDS)
        try:
            connection.request("POST", f"/v1/control/{question}", request.SerializeToString(), PROTOBUF)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == http.client.OK:
            answer.ParseFromString(body)
            return answer
    except (OSError, http.client.HTTPException, DecodeError) as error:
        raise FlamesError(f"the SuperLink at {address} does not answer ({error}); is it running?") from error
    raise FlamesError(f"the SuperLink at {address} rejects the query: {_reason(response.status, body)}")


def _reason(status: int, body: bytes) -> str:
    """Return Flower's own reason, or the status if there is none."""
    try:
        return str(parse_json(body)["detail"])
    except (ValueError, TypeError, KeyError):
        return f"HTTP status {status}"
