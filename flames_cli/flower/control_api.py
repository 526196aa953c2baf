"""Requests to a SuperLink's Control interface, which lists, starts and stops runs, and registers nodes.

They use the protocol of Flower's command line directly: the start of that command takes seconds, and its
output does not contain the names and keys of nodes.
"""

import hashlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    ListRunsRequest,
    ListRunsResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    StartRunRequest,
    StartRunResponse,
    StopRunRequest,
    StopRunResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.fab import Fab
from flwr.supercore.utils import simulation_config_from_json
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


def start_run(
    address: str,
    root_certificates: Path | None,
    fab: bytes,
    run_config: Mapping[str, str],
    simulation: Mapping[str, int | float] | None,
) -> int:
    """Start a run of the app in `fab` at the SuperLink at `address`, and return the run's number.

    `simulation` are Flower's options of a simulation, with the names of its protocol; None if nodes are real.

    Raises:
        FlamesError: it does not answer, or it rejects the app.
    """
    request = StartRunRequest(
        fab=fab_to_proto(Fab(hashlib.sha256(fab).hexdigest(), fab, {})),
        override_config=user_config_to_proto(dict(run_config)),
        override_federation_config=simulation_config_from_json(dict(simulation)) if simulation else None,
    )
    response = _ask(address, root_certificates, "start-run", request, StartRunResponse())
    if not response.HasField("run_id"):
        raise FlamesError(
            f"the SuperLink at {address} does not start the run: {response.note or 'no reason'}"
        )
    return int(response.run_id)


def stop_run(address: str, root_certificates: Path | None, run_id: int) -> None:
    """Stop a run.

    Raises:
        FlamesError: the run has ended or is unknown, or the SuperLink does not answer.
    """
    response = _ask(address, root_certificates, "stop-run", StopRunRequest(run_id=run_id), StopRunResponse())
    if not response.success:
        raise FlamesError(f"the SuperLink at {address} does not stop run {run_id}; has it ended?")


def register_node(address: str, root_certificates: Path | None, public_key: bytes, name: str) -> int:
    """Register the node with this public key (PEM), and return its node id.

    Raises:
        FlamesError: Flower does not accept the key, or the SuperLink does not answer.
    """
    request = RegisterNodeRequest(public_key=public_key, name=name)
    response = _ask(address, root_certificates, "register-node", request, RegisterNodeResponse())
    if not response.node_id:
        raise FlamesError(f"the SuperLink at {address} does not register {name}")
    return int(response.node_id)


def unregister_node(address: str, root_certificates: Path | None, node_id: int) -> None:
    """Remove a node's key permanently.

    Raises:
        FlamesError: the SuperLink does not answer.
    """
    request = UnregisterNodeRequest(node_id=node_id)
    _ask(address, root_certificates, "unregister-node", request, UnregisterNodeResponse())


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
