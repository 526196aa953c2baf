"""The rounds of a swarm: which peers take part in a round, and what passes between them."""

from collections.abc import Collection
from typing import Any

from flames_cli.core.federated.reports import State
from flames_cli.core.federated.swarm_blend import who_hears
from flames_cli.core.federated.topology import Topology
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients


def peers_online(topology: Topology, clients: Clients, round_: int) -> Clients:
    """Return the peers that take part in `round_`."""
    return [one for one in clients if topology.is_online(one[1].client, round_)]


def links_of(plan: Plan, topology: Topology, state: State, accepted: Collection[str]) -> dict[str, Any]:
    """Return the entries of a round for rounds.jsonl that describe what the peers sent to each other.

    `heard` has the peers whose reports each peer received, `offline` those that took no part. A report
    travels over each link as complete weights: the neighbours do not have the model with which its sender
    began.
    """
    groups: dict[str, list[str]] = {}
    for client, last in state.clients.items():
        groups.setdefault(last.group, []).append(client)
    heard = {
        client: [name for name in names if name != client]
        for group, peers in groups.items()
        for client, names in who_hears(
            topology.graph(group, peers), {name: None for name in peers if name in accepted}
        ).items()
    }
    entries, model = plan.known_entries, next(iter(state.server.values()))
    sent = entries.shared_of(model)
    size = sum(array.nbytes for name, array in sent.items() if name not in entries.frozen)
    total = size * sum(map(len, heard.values()))
    return {
        "heard": heard,
        "offline": sorted(client for client in state.clients if not topology.is_online(client, state.round)),
        "link_bytes": size,
        "bytes_down": total,
        "bytes_up": total,
    }
