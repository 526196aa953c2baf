"""The ServerApp: rounds over a Grid, one message a client, reports blended as they come.

Its own loop rather than Flower's `Strategy.start`, which cannot go on after a crash, send each client its
own model, or blend a reply before the last one is there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from flames_cli.core.aggregation import apply_round
from flames_cli.core.reports import Report, RoundResult, State
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ClientDone, FederationStarted, OnEvent, RoundDone, ignore
from flames_cli.fed.exchange import exchange
from flames_cli.fed.joining import query_nodes
from flames_cli.fed.messages import Profile, pack_task, unpack_report, weights_bytes
from flames_cli.fed.plan import Plan, initial_state


@dataclass(slots=True)
class _Traffic:
    """One round's count of who did what; becomes its record."""

    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    bytes_down: int = 0
    bytes_up: int = 0


Save = Callable[[State, dict[str, Any]], None]


def make_server_app(
    plan: Plan, save: Save, resumed: State | None = None, on_event: OnEvent = ignore
) -> ServerApp:
    """The ServerApp that runs `plan`, from `resumed` where given; `save(state, record)` after every round."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_rounds(grid, plan, save, resumed, on_event)

    return app


def run_rounds(grid: Grid, plan: Plan, save: Save, resumed: State | None, on_event: OnEvent) -> State:
    """All rounds that are left; the final state.

    Raises:
        FlamesError: no client joined, or a round in which nobody gave a good report.
    """
    nodes = query_nodes(grid, plan.size, plan.channels)
    profiles = [profile for _, profile in nodes]
    state = resumed or initial_state(plan, profiles)
    members = Counter(plan.group_of(profile) for profile in profiles)
    clients = tuple((profile.client, profile.modality, profile.n_train) for profile in profiles)
    on_event(FederationStarted(clients, state.round + 1, plan.rounds))
    for round_ in range(state.round + 1, plan.rounds + 1):
        started = time.monotonic()
        traffic = _Traffic()
        reports = _collect(grid, plan, state, round_, nodes, traffic, on_event)
        result = apply_round(state, reports, plan.algorithm, plan.known_entries, members)
        refused = {**traffic.failed, **result.refused}
        for client, reason in result.refused.items():
            on_event(ClientDone(client, round_, {}, reason))
        if not result.accepted:
            reasons = "; ".join(f"{client}: {reason}" for client, reason in refused.items())
            raise FlamesError(f"round {round_} got no good report ({reasons})")
        state = result.state
        record = _record(round_, profiles, result, traffic, refused, time.monotonic() - started)
        save(state, record)
        on_event(RoundDone(record))
    return state


def _collect(
    grid: Grid,
    plan: Plan,
    state: State,
    round_: int,
    nodes: list[tuple[int, Profile]],
    traffic: _Traffic,
    on_event: OnEvent,
) -> Iterator[Report]:
    """The round's reports as they come; failures are noted in `traffic`."""
    profiles = dict(nodes)
    sent: dict[str, float] = {}

    def requests() -> Iterator[Message]:
        for node, profile in nodes:
            task = plan.task(state, round_, profile, list(profiles.values()))
            traffic.bytes_down += weights_bytes(task.weights, task.control, task.style)
            sent[profile.client] = time.monotonic()
            yield pack_task(task, node)

    for reply in exchange(grid, requests()):
        profile = profiles[reply.metadata.src_node_id]
        client = profile.client
        traffic.seconds[client] = time.monotonic() - sent[client]
        report, reason = _read_report(reply, profile)
        if report is None:
            traffic.failed[client] = reason
            on_event(ClientDone(client, round_, {}, reason))
            continue
        traffic.bytes_up += weights_bytes(report.weights, report.control, report.style)
        traffic.metrics[client] = {
            **report.metrics,
            "n_examples": report.n_examples,
            "n_steps": report.n_steps,
        }
        on_event(ClientDone(client, round_, traffic.metrics[client]))
        yield report


def _read_report(reply: Message, profile: Profile) -> tuple[Report | None, str]:
    """The report, or why there is none."""
    if reply.has_error():
        return None, str(reply.error.reason)
    try:
        report = unpack_report(reply)
    except Exception as error:  # what a client sends may fail to be read in any way at all
        return None, f"its report cannot be read ({type(error).__name__}: {error})"
    if (report.client, report.modality) != (profile.client, profile.modality):
        return None, f"it reports as '{report.client}' ({report.modality}), it joined as {profile.modality}"
    return report, ""


def _record(
    round_: int,
    profiles: list[Profile],
    result: RoundResult,
    traffic: _Traffic,
    refused: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """The round's line in rounds.jsonl."""
    return {
        "round": round_,
        "seconds": round(seconds, 3),
        "clients": [
            {
                "client": profile.client,
                "modality": profile.modality,
                "seconds": round(traffic.seconds.get(profile.client, 0.0), 3),
                **traffic.metrics.get(profile.client, {}),
                **({"refused": refused[profile.client]} if profile.client in refused else {}),
            }
            for profile in profiles
        ],
        "accepted": list(result.accepted),
        "refused": refused,
        "bytes_down": traffic.bytes_down,
        "bytes_up": traffic.bytes_up,
        "rss_mb": round(psutil.Process().memory_info().rss / 2**20, 1),
    }
