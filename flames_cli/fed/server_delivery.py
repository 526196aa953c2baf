"""The server's side of the delivery: after the last round, each client gets its own model of the chosen
round."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.reports import State
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.final_model import FinalModel, pack_final_model, unpack_stored
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.waiting import Work
from flames_cli.store.clients import KeptModel
from flames_cli.store.weights import hash_weights


@dataclass(frozen=True, slots=True)
class Delivery:
    """Record of which clients have their model."""

    find_kept: Callable[[], Mapping[str, KeptModel]]
    """find_kept() gives the models that clients have stored, by client."""
    save: Callable[[str, KeptModel], None]
    """save(client, model) records that a client has stored its model."""
    explain: Callable[[State], str]
    """explain(state) gives the reason for the round of `state`."""


def find_pending(delivery: Delivery, chosen: State, last: State) -> list[str]:
    """Return the clients without their model; one that joined after the chosen round gets that of the last
    round."""
    kept = delivery.find_kept()
    return [
        name
        for name, report in last.clients.items()
        if name not in kept or kept[name].round != (chosen if report.group in chosen.server else last).round
    ]


def deliver_models(
    grid: Grid, plan: Plan, delivery: Delivery, chosen: State, last: State, clients: Clients, roster: Roster
) -> Work[dict[str, str]]:
    """Send each of `clients` its model, and return the reason of each that has not stored it.

    Args:
        grid: the nodes.
        plan: plan of the run.
        delivery: record of which clients have their model.
        chosen: state of the chosen round.
        last: state of the last round, for clients whose group has no model in the chosen one.
        clients: clients that can be asked.
        roster: the nodes.
    """
    profiles, sent, missing = dict(clients), dict[str, KeptModel](), dict[str, str]()

    def requests() -> Iterator[Message]:
        for node, profile in clients:
            state = chosen if plan.model_group_of(profile) in chosen.server else last
            task = plan.kept_task(state, profile)
            model = FinalModel(task, hash_weights(task.weights), delivery.explain(state))
            sent[profile.client] = KeptModel(state.round, model.sha256)
            yield pack_final_model(model, node)

    for reply in exchange(grid, requests(), roster.terms()):
        if reply is None:
            yield None
            continue
        roster.settle(reply)
        client = profiles[reply.node].client
        reason = _fault(reply, client, sent[client])
        if reason:
            missing[client] = reason
        else:
            delivery.save(client, sent[client])
    return missing


def describe_missing(missing: Mapping[str, str]) -> str:
    """Return a note that names the clients without their model."""
    listed = "; ".join(f"{client}: {reason}" for client, reason in missing.items())
    return (
        f"clients that have not stored their own model: {listed}; start their nodes, then run the same "
        "`flames federate` again, which sends these models and changes nothing else"
    )


def _fault(reply: Reply, client: str, sent: KeptModel) -> str:
    """Return why a client has not stored the model that was sent; empty if it has."""
    stored, reason = reply.read(unpack_stored, "answer about its model")
    if stored is None:
        return reason
    if stored.client != client:
        return sanitise(f"it reports as '{stored.client}', it joined as '{client}'")
    if KeptModel(stored.round, stored.sha256) != sent:
        return "it stored another model than the server sent; restart its node"
    return ""
