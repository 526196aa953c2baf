"""State of a deployment's server, sites and runs."""

from dataclasses import dataclass
from pathlib import Path

from flames_cli.errors import FlamesError
from flames_cli.fed.submitted_runs import read_submitted
from flames_cli.flower.control_api import NodeRecord
from flames_cli.flower.flwr_command import find_superlink
from flames_cli.stages.deploy.run_status import RunStatus, describe_runs
from flames_cli.stages.deploy.server import read_node_ids
from flames_cli.store.deployment.folders import read_deployment

STATES = {"registered": "never online"}
"""Clearer words for some of Flower's states."""

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """State of a site.

    It is `online`, `offline`, `never online`, `unregistered`, `not registered`, or `unknown` without a
    server.
    """

    name: str
    node_id: int | None
    state: str
    since: str | None
    """Time at which it came online or went offline, ISO 8601 in UTC."""


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """State of the server: whether it runs, whether it requires keys, its sites and its newest runs."""

    superlink: str
    running: bool
    secure: bool
    sites: tuple[SiteStatus, ...]
    runs: tuple[RunStatus, ...]


def read_status(path: Path) -> DeploymentStatus:
    """Return the state of the deployment in folder `path`, on the server's own machine.

    Raises:
        FlamesError: the folder cannot be read, or the server rejects a query.
    """
    deployment = read_deployment(path)
    ids = read_node_ids(deployment)
    cli = find_superlink(deployment.flower_home, deployment.port, deployment.ca_certificate)
    if cli is None:
        sites = [_site(name, ids.get(name), None) for name in deployment.sites]
        return DeploymentStatus(deployment.superlink, False, True, tuple(sites), ())
    nodes = {node.node_id: node for node in cli.nodes()}
    secure = cli.root_certificates is not None
    sites = [_site(name, ids.get(name), nodes) for name in deployment.sites] if secure else []
    sites += [_other(node) for node in nodes.values() if node.node_id not in ids.values()]
    runs = describe_runs(cli.runs(), read_submitted(deployment.flower_home))
    return DeploymentStatus(deployment.superlink, True, secure, tuple(sites), tuple(runs))


def _site(name: str, node_id: int | None, nodes: dict[int, NodeRecord] | None) -> SiteStatus:
    if node_id is None:
        return SiteStatus(name, None, "not registered", None)
    if nodes is None:
        return SiteStatus(name, node_id, UNKNOWN, None)
    if node_id not in nodes:
        raise FlamesError(
            f"the server does not know node {node_id} of {name}: its database was deleted or replaced; "
            "restart the server, which registers every site again"
        )
    return _status(name, nodes[node_id])


def _other(node: NodeRecord) -> SiteStatus:
    """Return the state of a node without a site: the server needs no keys, or the site was removed."""
    return _status(node.name or "(no name)", node)


def _status(name: str, node: NodeRecord) -> SiteStatus:
    since = {"online": node.online_at, "offline": node.offline_at}.get(node.status)
    return SiteStatus(name, node.node_id, STATES.get(node.status, node.status), since)
