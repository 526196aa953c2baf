"""The ServerApp: it runs rounds over a Grid, with one message for each client, and blends reports on arrival.

It has its own loop, since Flower's `Strategy.start` cannot resume after a crash, cannot send each client its
own model, and blends no reply before the last one has arrived.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from flames_cli.core.federated.aggregation import RoundSettings, apply_round
from flames_cli.core.federated.privacy import NoiseKey
from flames_cli.core.federated.reports import Report, RoundResult, State
from flames_cli.core.federated.shelf import IN_MEMORY, Shelf
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.errors import FlamesError
from flames_cli.fed.admission import Requirements
from flames_cli.fed.choice_records import patients_reason
from flames_cli.fed.evaluation_report import EvaluationReport
from flames_cli.fed.events import (
    ClientAsked,
    FederationStarted,
    FinalModelsExamined,
    Noted,
    OnEvent,
    ReportReceived,
    ReportRejected,
    RoundDone,
    ignore,
)
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.joined import JoinedClients, SaveClients, no_clients_to_save
from flames_cli.fed.messages import Profile, StartOf, unpack_report, validation_fault
from flames_cli.fed.offers import Offers
from flames_cli.fed.pace import USUAL_PACE, Pace
from flames_cli.fed.packing import Packer
from flames_cli.fed.participation import ALL_AT_ONCE, Participation, draw_clients
from flames_cli.fed.plan import Plan, with_model_groups
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.fed.records import message_bytes
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.server_delivery import Delivery, deliver_models, describe_missing, find_pending
from flames_cli.fed.server_evaluation import collect_evaluations
from flames_cli.fed.server_final_pass import FinalPass, examine_final_models
from flames_cli.fed.swarm import links_of, peers_online


@dataclass(slots=True)
class _Traffic:
    """Times, numbers and failures of one round, for its record."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Time until the reply, by client."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Numbers of the received reports, by client."""
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Choice of each client that chose its start, with the Dice of the candidates."""
    failed: dict[str, str] = field(default_factory=dict)
    """Reason of each client without a readable report."""
    bytes_down: int = 0
    bytes_up: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Round and limits that a client's reply must fit, and the model with which it began."""

    round: int
    most_steps: int
    """Largest number of steps that the client's images make."""
    start_of: StartOf


Save = Callable[[State, dict[str, Any]], None]
"""save(state, record), called after every round."""

SaveFinal = Callable[[FinalPass, list[dict[str, Any]]], None]
"""save_final(result, earlier), called after the passes that follow the last round; `earlier` has the entries
of the best earlier rounds for final-models.json."""

SaveEvaluations = Callable[[int, list[EvaluationReport], dict[str, str]], None]
"""save_evaluations(round, reports, missing), called after the last round; `missing` has the reason of each
client without a report."""


def nothing_to_save(state: State, record: dict[str, Any]) -> None:
    """Save nothing."""


@dataclass(frozen=True, slots=True)
class EarlierRounds:
    """Access to the stored rounds before the last one, of which one may have the best models."""

    find_best: Callable[[FinalPass, OnEvent], Iterable[State]]
    """find_best(result of the last round, on_event) gives the states of the best rounds before the last."""
    save: Callable[[State], None]
    """save(state) stores the state of an earlier round with the statistics of its models."""
    choose: Callable[[State], State]
    """choose(last state) gives the state whose models the clients evaluate."""


@dataclass(frozen=True, slots=True)
class Federation:
    """A federation as the ServerApp runs it: its plan, its start, and what is called with its results."""

    plan: Plan
    save: Save = nothing_to_save
    resumed: State | None = None
    """State to resume from; None: start with round 1."""
    on_event: OnEvent = ignore
    participation: Participation = ALL_AT_ONCE
    save_evaluations: SaveEvaluations | None = None
    """None: the clients do not evaluate the final models."""
    save_final: SaveFinal | None = None
    """None: there is no pass of the clients after the last round."""
    earlier: EarlierRounds | None = None
    """None: only the last round counts."""
    delivery: Delivery | None = None
    """None: the clients do not get their models, since all of them are on this machine."""
    noise_secret: bytes = field(default=b"", repr=False)
    """Secret from which noise is drawn; empty if the plan's algorithm has no privacy."""
    pace: Pace = USUAL_PACE
    save_clients: SaveClients = no_clients_to_save
    shelf: Shelf = IN_MEMORY
    """Place of the reports and models of single clients."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Packages whose plug-ins every node needs, name → version; empty if the nodes are in this process."""


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
        return _run_all(grid, federation)
    finally:
        federation.shelf.close()


def _run_all(grid: Grid, federation: Federation) -> State:
    plan, on_event, state = federation.plan, federation.on_event, federation.resumed
    requirements = Requirements(plan.size, plan.channels, plan.smallest_batch, federation.plugins)
    roster = Roster(grid, requirements, federation.participation, on_event, federation.pace)
    joined = JoinedClients(federation.save_clients, on_event)
    first = state.round + 1 if state else 1
    for round_ in range(first, plan.rounds + 1):
        clients = roster.wait_for_clients(round_)
        joined.note(roster.known)
        if round_ == first:
            present = tuple((one.client, one.modality, one.n_train) for _, one in clients)
            on_event(FederationStarted(present, first, plan.rounds))
        drawn = (
            peers_online(plan.topology, clients, round_)
            if plan.topology
            else draw_clients(clients, federation.participation, plan.fraction, plan.seed, round_)
        )
        state = _run_round(grid, federation, with_model_groups(state, plan, roster.known), drawn, roster)
    federation.shelf.wait()  # the files of the last round are complete
    final = state or with_model_groups(None, plan, [])
    if federation.save_final and final.statistics is None:
        final = _examine(grid, federation, final, roster, federation.save_final)
    chosen = federation.earlier.choose(final) if federation.earlier else final
    if federation.save_evaluations:
        clients = roster.available_clients()
        able = _with_models(chosen, plan, clients)
        reports, missing = collect_evaluations(grid, plan, chosen, able, roster, on_event)
        late = {
            one.client: f"its first model is newer than round {chosen.round}"
            for _, one in clients
            if plan.model_group_of(one) not in chosen.server
        }
        federation.save_evaluations(chosen.round, reports, {**missing, **late})
    _deliver(grid, federation, chosen, final, roster, joined, ends_now=first <= plan.rounds)
    return final


def _examine(grid: Grid, federation: Federation, last: State, roster: Roster, save_final: SaveFinal) -> State:
    """Let the clients examine the last round's models, then those of the best earlier rounds; return the last
    state with its statistics.

    All is repeated if it is interrupted, since the last state is saved last.
    """
    plan, on_event = federation.plan, federation.on_event
    clients = roster.available_clients()
    examined = examine_final_models(grid, plan, last, clients, roster, on_event)
    records = []
    if earlier := federation.earlier:
        for state in earlier.find_best(examined, on_event):
            able = _with_models(state, plan, clients)
            found = examine_final_models(grid, plan, state, able, roster, on_event)
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
) -> None:
    """Send each client its own model of the chosen round.

    A run without new rounds (not `ends_now`) sends only the models that clients do not have yet. After new
    rounds a client may have the same model from before, and still has to learn that the run has ended.
    """
    if not (delivery := federation.delivery):
        return
    pending = find_pending(delivery, chosen, last)
    if not pending and not ends_now:
        return
    clients = [one for one in roster.clients_called(pending) if ends_now or one[1].client in pending]
    joined.note(roster.known)
    missing = dict.fromkeys(pending, "it was not present after the last round")
    for _, profile in clients:
        missing.pop(profile.client, None)
    missing |= deliver_models(grid, federation.plan, delivery, chosen, last, clients, roster)
    if missing:
        federation.on_event(Noted(describe_missing(missing)))


def _with_models(state: State, plan: Plan, clients: Clients) -> Clients:
    """Return the clients that have a model in `state`: the first client of a group may have joined later."""
    return [(node, profile) for node, profile in clients if plan.model_group_of(profile) in state.server]


def _run_round(grid: Grid, federation: Federation, state: State, clients: Clients, roster: Roster) -> State:
    """Run one round with `clients`: send models, collect reports, blend and save."""
    plan, on_event = federation.plan, federation.on_event
    started, round_ = time.monotonic(), state.round + 1
    traffic = _Traffic()
    reports = _collect(grid, federation, state, clients, roster, traffic)
    sizes = Counter(client.group for client in state.clients.values())
    limit = NormLimit(plan.max_update_norm, {one.client: plan.lr_of(one, round_) for _, one in clients})
    noise = NoiseKey(federation.noise_secret, plan.wire_dtype) if plan.algorithm.privacy else None
    result = apply_round(
        state=state,
        reports=reports,
        algorithm=plan.algorithm,
        entries=plan.known_entries,
        n_clients=sizes,
        settings=RoundSettings(limit, noise, federation.shelf, plan.topology),
    )
    unusable = {client: sanitise(reason) for client, reason in result.rejected.items()}
    rejected = {**traffic.failed, **unusable}
    for client, reason in unusable.items():
        on_event(ReportRejected(client, round_, reason))
    if clients and not result.accepted:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in rejected.items())
        raise FlamesError(
            f"round {round_} got no good report ({reasons}); fix the cause, then run the same command again "
            "to continue"
        )
    profiles = [profile for _, profile in clients]
    record = _record(round_, profiles, result, traffic, rejected, time.monotonic() - started)
    if plan.algorithm.privacy:
        record |= privacy_spent(plan.algorithm.privacy, result.state.releases)
    if plan.topology:
        record |= links_of(plan, plan.topology, result.state, result.accepted)
    federation.save(result.state, record)
    on_event(RoundDone(record))
    return result.state


def _collect(
    grid: Grid, federation: Federation, state: State, clients: Clients, roster: Roster, traffic: _Traffic
) -> Iterator[Report]:
    """Yield the round's reports in order of the clients' names; note failures in `traffic`."""
    plan, on_event, round_ = federation.plan, federation.on_event, state.round + 1
    profiles = dict(clients)
    sent: dict[int, float] = {}
    packer, offers = Packer(plan, state.server, profiles.values()), Offers(plan, state)

    def requests() -> Iterator[Message]:
        for node, profile in clients:
            task = plan.task(state, round_, profile, roster.known)
            message = packer.pack(offers.add_to(task, profile), profile, node)
            traffic.bytes_down += message_bytes(message)
            sent[node] = time.monotonic()
            on_event(ClientAsked(profile.client, round_))
            yield message

    def note_arrival(node: int) -> None:
        traffic.seconds[profiles[node].client] = time.monotonic() - sent[node]

    for reply in exchange(grid, requests(), roster.terms(note_arrival)):
        roster.settle(reply)
        profile = profiles[reply.node]
        most_steps = plan.steps_a_round(profile.client, profile.modality, profile.n_train)
        asked = _Asked(round_, most_steps, partial(offers.start, profile))
        yield from _take(reply, profile, asked, traffic, on_event)
        del reply  # frees the memory while the next reply is awaited
    for node, profile in clients:
        if node not in sent:
            traffic.failed[profile.client] = "the round ended before it could be asked"


def _take(
    reply: Reply, profile: Profile, asked: _Asked, traffic: _Traffic, on_event: OnEvent
) -> Iterator[Report]:
    """Yield the report in `reply`, if there is a readable one; note the outcome in `traffic`."""
    client = profile.client
    report, reason = _read_report(reply, profile, asked)
    if report is None or reply.message is None:
        traffic.failed[client] = reason
        on_event(ReportRejected(client, asked.round, reason))
        return
    traffic.bytes_up += message_bytes(reply.message)
    traffic.metrics[client] = {**report.metrics, "n_examples": report.n_examples, "n_steps": report.n_steps}
    on_event(ReportReceived(client, asked.round, traffic.metrics[client]))
    if report.choice:
        traffic.choices[client] = report.choice.as_json()
    yield report


def _read_report(reply: Reply, profile: Profile, asked: _Asked) -> tuple[Report | None, str]:
    """Return (the report, ""), or (None, the reason why there is none)."""
    report, reason = reply.read(partial(unpack_report, start_of=asked.start_of), "report")
    if report is None:
        return None, reason
    if report.round != asked.round:
        return None, f"it reports on round {report.round}, expected round {asked.round}"
    if report.n_examples > profile.n_train:
        return None, f"it reports {report.n_examples} examples, it joined with {profile.n_train}"
    if not 0 <= report.n_steps <= asked.most_steps:
        return None, f"it reports {report.n_steps} steps, its images make at most {asked.most_steps}"
    if impossible := patients_reason(report.choice, profile.n_val) or validation_fault(
        report.metrics, profile
    ):
        return None, impossible
    if (report.client, report.modality) != (profile.client, profile.modality):
        stated = sanitise(f"'{report.client}' ({report.modality})")
        return None, f"it reports as {stated}, it joined as '{profile.client}' ({profile.modality})"
    return report, ""


def _moved(client: str, result: RoundResult) -> dict[str, float]:
    """Return the distance by which an accepted report moved the weights, divided by the learning rate."""
    norms = result.state.clients[client].moved.norms if client in result.accepted else {}
    return {"update_norm": norms["weights"]} if norms else {}


def _record(
    round_: int,
    profiles: list[Profile],
    result: RoundResult,
    traffic: _Traffic,
    rejected: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Return the round's line in rounds.jsonl."""
    return {
        "round": round_,
        "seconds": round(seconds, 3),
        "clients": [
            {
                "client": profile.client,
                "modality": profile.modality,
                "seconds": round(traffic.seconds.get(profile.client, 0.0), 3),
                **(
                    {"rejection_reason": rejected[profile.client]}
                    if profile.client in rejected
                    else {
                        **traffic.metrics.get(profile.client, {}),
                        **_moved(profile.client, result),
                        **traffic.choices.get(profile.client, {}),
                    }
                ),
            }
            for profile in profiles
        ],
        "accepted": list(result.accepted),
        "unchanged_groups": list(result.unchanged_groups),
        "rejected": rejected,
        "bytes_down": traffic.bytes_down,
        "bytes_up": traffic.bytes_up,
        "rss_mb": round(psutil.Process().memory_info().rss / 2**20, 1),
    }
