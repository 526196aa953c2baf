"""The ServerApp: it runs rounds over a Grid, with one message for each client, and blends reports on arrival.

It has its own loop, since Flower's `Strategy.start` cannot resume after a crash, cannot send each client its
own model, and blends no reply before the last one has arrived.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from flames_cli.core.federated.reports import State
from flames_cli.fed.admission import Requirements
from flames_cli.fed.events import FederationStarted, FinalModelsExamined, Noted
from flames_cli.fed.federation import Federation, SaveFinal
from flames_cli.fed.joined import JoinedClients
from flames_cli.fed.modalities import run_by_modality
from flames_cli.fed.participation import draw_clients
from flames_cli.fed.plan import Plan, with_model_groups
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.rounds import examine, run_round
from flames_cli.fed.server_delivery import deliver_models, describe_missing, find_pending
from flames_cli.fed.server_evaluation import collect_evaluations
from flames_cli.fed.swarm import peers_online
from flames_cli.fed.waiting import Work, finish

Open = Callable[[Mapping[str, Any]], Federation]
"""Function that makes the federation from the run's configuration (Flower's `run_config`)."""


def make_server_app(open_federation: Open) -> ServerApp:
    """Return a ServerApp that, when it starts, calls `open_federation` and runs the federation."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_rounds(grid, open_federation(context.run_config))

    return app


def run_rounds(grid: Grid, federation: Federation) -> State:
    """Run all remaining rounds, and return the final state, whose clients' models may be stored no longer.

    Raises:
        FlamesError: too few clients were present in time, or no client sent a good report in a round.
    """
    try:
        return finish(_run_all(grid, federation), federation.pace)
    finally:
        federation.shelf.close()


def _run_all(grid: Grid, federation: Federation) -> Work[State]:
    plan, on_event, state = federation.plan, federation.on_event, federation.resumed
    requirements = Requirements(
        plan.size, plan.channels, plan.smallest_batch, federation.plugins, plan.secure
    )
    roster = Roster(grid, requirements, federation.participation, on_event, federation.pace)
    joined = JoinedClients(federation.save_clients, on_event)
    first = state.round + 1 if state else 1
    if federation.by_modality:
        if first <= plan.rounds:
            state = yield from run_by_modality(grid, federation, federation.by_modality, roster, joined)
    else:
        state = yield from _run_in_step(grid, federation, roster, joined)
    federation.shelf.wait()  # the files of the last round are complete
    final = state or with_model_groups(None, plan, [])
    if federation.save_final and final.statistics is None:
        final = yield from _examine(grid, federation, final, roster, federation.save_final)
    chosen = federation.earlier.choose(final) if federation.earlier else final
    if federation.save_evaluations:
        clients = yield from roster.available_clients()
        able = _with_models(chosen, plan, clients)
        reports, missing = yield from collect_evaluations(grid, plan, chosen, able, roster, on_event)
        late = {
            one.client: f"its first model is newer than round {chosen.round}"
            for _, one in clients
            if plan.model_group_of(one) not in chosen.server
        }
        federation.save_evaluations(chosen.round, reports, {**missing, **late})
    yield from _deliver(grid, federation, chosen, final, roster, joined, ends_now=first <= plan.rounds)
    return final


def _run_in_step(
    grid: Grid, federation: Federation, roster: Roster, joined: JoinedClients
) -> Work[State | None]:
    """Do all remaining rounds, each of which begins when the one before has ended; return the last state."""
    plan, state = federation.plan, federation.resumed
    first = state.round + 1 if state else 1
    for round_ in range(first, plan.rounds + 1):
        clients = yield from roster.wait_for_clients(round_)
        joined.note(roster.known)
        if round_ == first:
            present = tuple((one.client, one.modality, one.n_train) for _, one in clients)
            federation.on_event(FederationStarted(present, first, plan.rounds))
        drawn = (
            peers_online(plan.topology, clients, round_)
            if plan.topology
            else draw_clients(clients, federation.participation, plan.fraction, plan.seed, round_)
        )
        state = yield from run_round(
            grid, federation, with_model_groups(state, plan, roster.known), drawn, roster
        )
    return state


def _examine(
    grid: Grid, federation: Federation, last: State, roster: Roster, save_final: SaveFinal
) -> Work[State]:
    """Let the clients examine the last round's models, then those of the best earlier rounds; return the last
    state with its statistics.

    All is repeated if it is interrupted, since the last state is saved last.
    """
    plan, on_event = federation.plan, federation.on_event
    clients = yield from roster.available_clients()
    examined = yield from examine(grid, plan, last, clients, roster, on_event)
    records = []
    if earlier := federation.earlier:
        for state in earlier.find_best(examined, on_event):
            able = _with_models(state, plan, clients)
            found = yield from examine(grid, plan, state, able, roster, on_event)
            earlier.save(found.state)
            records.append(found.as_json())
    save_final(examined, records)
    on_event(FinalModelsExamined({**examined.as_json(), "earlier": records}))
    return examined.state


def _deliver(
    grid: Grid,
    federation: Federation,
    chosen: State,
    last: State,
    roster: Roster,
    joined: JoinedClients,
    ends_now: bool,
) -> Work[None]:
    """Send each client its own model of the chosen round.

    A run without new rounds (not `ends_now`) sends only the models that clients do not have yet. After new
    rounds a client may have the same model from before, and still has to learn that the run has ended.
    """
    if not (delivery := federation.delivery):
        return
    pending = find_pending(delivery, chosen, last)
    if not pending and not ends_now:
        return
    called = yield from roster.clients_called(pending)
    clients = [one for one in called if ends_now or one[1].client in pending]
    joined.note(roster.known)
    missing = dict.fromkeys(pending, "it was not present after the last round")
    for _, profile in clients:
        missing.pop(profile.client, None)
    missing |= yield from deliver_models(grid, federation.plan, delivery, chosen, last, clients, roster)
    if missing:
        federation.on_event(Noted(describe_missing(missing)))


def _with_models(state: State, plan: Plan, clients: Clients) -> Clients:
    """Return the clients that have a model in `state`: the first client of a group may have joined later."""
    return [(node, profile) for node, profile in clients if plan.model_group_of(profile) in state.server]
