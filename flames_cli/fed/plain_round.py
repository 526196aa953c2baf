"""A plain round: models are sent to the clients, and each report is blended when it is its turn."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.aggregation import OpenRound, RoundSettings
from flames_cli.core.federated.privacy import NoiseKey
from flames_cli.core.federated.reports import Report, RoundResult, State
from flames_cli.core.federated.update_norms import NormLimit
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ClientAsked, OnEvent, ReportReceived, ReportRejected, RoundDone
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.federation import Federation
from flames_cli.fed.messages import Profile
from flames_cli.fed.offers import Offers
from flames_cli.fed.packing import Packer
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.fed.records import message_bytes
from flames_cli.fed.report_reading import Asked, read_report
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.round_record import finish_record, moved_of
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.swarm import links_of
from flames_cli.fed.waiting import Work


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


def run_plain_round(
    grid: Grid, federation: Federation, state: State, clients: Clients, roster: Roster
) -> Work[State]:
    """Run one round with `clients`: send models, collect reports, blend and save.

    Raises:
        FlamesError: no client sent a good report.
    """
    plan, on_event = federation.plan, federation.on_event
    started, round_ = time.monotonic(), state.round + 1
    traffic = _Traffic()
    sizes = Counter(client.group for client in state.clients.values())
    limit = NormLimit(plan.max_update_norm, {one.client: plan.lr_of(one, round_) for _, one in clients})
    noise = NoiseKey(federation.noise_secret, plan.wire_dtype) if plan.algorithm.privacy else None
    settings = RoundSettings(limit, noise, federation.shelf, topology=plan.topology)
    open_round = OpenRound(state, plan.algorithm, plan.known_entries, settings)
    for report in _collect(grid, federation, state, clients, roster, traffic):
        if report is None:
            yield None
        else:
            open_round.take(report)
        del report  # frees the memory while the next report is awaited
    result = open_round.close(sizes)
    del open_round
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
) -> Iterator[Report | None]:
    """Yield the round's reports in order of the clients' names, and None whenever nothing has arrived; note
    failures in `traffic`."""
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
        if reply is None:
            yield None
            continue
        roster.settle(reply)
        profile = profiles[reply.node]
        most_steps = plan.steps_a_round(profile.client, profile.modality, profile.n_train)
        asked = Asked(round_, most_steps, partial(offers.start, profile))
        yield from _take(reply, profile, asked, traffic, on_event)
        del reply  # frees the memory while the next reply is awaited
    for node, profile in clients:
        if node not in sent:
            traffic.failed[profile.client] = "the round ended before it could be asked"


def _take(
    reply: Reply, profile: Profile, asked: Asked, traffic: _Traffic, on_event: OnEvent
) -> Iterator[Report]:
    """Yield the report in `reply`, if there is a readable one; note the outcome in `traffic`."""
    client = profile.client
    report, reason = read_report(reply, profile, asked)
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


def _record(
    round_: int,
    profiles: list[Profile],
    result: RoundResult,
    traffic: _Traffic,
    rejected: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Return the round's line in rounds.jsonl."""
    begun = {
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
                        **moved_of(profile.client, result),
                        **traffic.choices.get(profile.client, {}),
                    }
                ),
            }
            for profile in profiles
        ],
    }
    return finish_record(begun, result, rejected, traffic.bytes_down, traffic.bytes_up)
