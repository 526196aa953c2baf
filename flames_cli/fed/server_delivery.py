"""The server's side of the delivery: after the last round every client gets its own model of the chosen round."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.reports import State
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.final_model import FinalModel, StoredModel, pack_final_model, unpack_stored
from flames_cli.fed.messages import Profile
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Roster
from flames_cli.fed.sanitise import sanitise
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


def deliver_models(
    grid: Grid, plan: Plan, delivery: Delivery, chosen: State, last: State, roster: Roster
) -> dict[str, str]:
    """Send each client that does not have it its model, and return the reason of each that still has none.

    A client whose group has no model in the chosen round, since it joined later, gets that of the last one.

    Args:
        grid: the nodes.
        plan: plan of the run.
        delivery: record of which clients have their model.
        chosen: state of the chosen round.
        last: state of the last round.
        roster: the nodes that can be asked.
    """
    kept = delivery.find_kept()
    expected = [name for name in last.clients if not _has(kept.get(name), name, chosen, last)]
    if not expected:
        return {}
    clients = [one for one in roster.clients_called(expected) if one[1].client in expected]
    profiles, sent = dict(clients), dict[str, KeptModel]()

    def requests() -> Iterator[Message]:
        for node, profile in clients:
            state = chosen if plan.model_group_of(profile) in chosen.server else last
            task = plan.kept_task(state, profile)
            model = FinalModel(task, hash_weights(task.weights), delivery.explain(state))
            sent[profile.client] = KeptModel(state.round, model.sha256)
            yield pack_final_model(model, node)

    missing = {name: "it was not present after the last round" for name in expected}
    for reply in exchange(grid, requests(), roster.terms()):
        roster.settle(reply)
        profile = profiles[reply.node]
        stored, reason = _read(reply, profile, sent.get(profile.client))
        missing[profile.client] = reason
        if stored:
            delivery.save(profile.client, stored)
            del missing[profile.client]
    return missing


def round_to_keep(client: str, chosen: State, last: State) -> int:
    """Return the round of the model that a client gets."""
    return chosen.round if last.clients[client].group in chosen.server else last.round


def _has(kept: KeptModel | None, client: str, chosen: State, last: State) -> bool:
    return kept is not None and kept.round == round_to_keep(client, chosen, last)


def _read(reply: Reply, profile: Profile, sent: KeptModel | None) -> tuple[KeptModel | None, str]:
    """Return (the model that the client has stored, ""), or (None, the reason why it has none)."""
    stored: StoredModel | None
    stored, reason = reply.read(unpack_stored, "answer about its model")
    if stored is None:
        return None, reason
    if stored.client != profile.client:
        return None, sanitise(f"it reports as '{stored.client}', it joined as '{profile.client}'")
    if sent is None or KeptModel(stored.round, stored.sha256) != sent:
        return None, "it stored another model than the server sent; restart the node"
    return sent, ""
