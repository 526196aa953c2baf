"""The ServerApp: rounds over a Grid, one message a client, reports blended as they come.

Its own loop rather than Flower's `Strategy.start`, which cannot go on after a crash, send each client its
own model, or blend a reply before the last one is there.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from flames_cli.arrays import Weights
from flames_cli.core.aggregation import Algorithm, Report, RoundResult, State, apply_round
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ClientDone, FederationStarted, OnEvent, RoundDone, ignore
from flames_cli.fed.messages import (
    PROTOCOL,
    Profile,
    TrainRequest,
    make_query,
    pack_request,
    unpack_profile,
    unpack_report,
    weights_bytes,
)

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """A federation, decided before it starts."""

    algorithm: Algorithm
    rounds: int
    seed: int
    model: str
    model_options: dict[str, Any]
    initial: Weights
    """What every model starts from."""
    size: int
    """Of the images."""
    channels: int = 1
    """Of the images; the model's options carry them as in_channels."""
    epochs: int = 1
    batch_size: int = 64
    lr: float = 1e-4
    lr_by_modality: dict[str, float] = field(default_factory=dict)
    dice_weight: float = 0.3
    per_pixel_focal: bool = False
    augment: bool = True

    def request(self, round_: int, profile: Profile) -> TrainRequest:
        """What `profile`'s client is asked in `round_`."""
        return TrainRequest(
            round=round_,
            seed=self.seed,
            client=profile.client,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr_by_modality.get(profile.modality, self.lr),
            dice_weight=self.dice_weight,
            per_pixel_focal=self.per_pixel_focal,
            augment=self.augment,
            model=self.model,
            model_options=json.dumps(self.model_options, sort_keys=True),
        )


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
    clients = tuple((profile.client, profile.modality, profile.n_train) for profile in profiles)
    on_event(FederationStarted(clients, state.round + 1, plan.rounds))
    for round_ in range(state.round + 1, plan.rounds + 1):
        started = time.monotonic()
        traffic = _Traffic()
        result = apply_round(
            state, _collect(grid, plan, state, round_, nodes, traffic, on_event), plan.algorithm
        )
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


def initial_state(plan: Plan, profiles: Iterable[Profile]) -> State:
    """Every group starts from the same weights."""
    groups = dict.fromkeys(plan.algorithm.group_of(profile.client, profile.modality) for profile in profiles)
    return State(0, {group: {name: a.copy() for name, a in plan.initial.items()} for group in groups})


def query_nodes(grid: Grid, size: int, channels: int = 1) -> list[tuple[int, Profile]]:
    """(node, profile) of every node, in order of the clients' names.

    Raises:
        FlamesError: no node, one that cannot tell what it is, speaks another protocol or holds images of
            another size or number of channels, or two with one name.
    """
    found: dict[str, tuple[int, Profile]] = {}
    for reply in exchange(grid, (make_query(node) for node in grid.get_node_ids())):
        node = reply.metadata.src_node_id
        if reply.has_error():
            raise FlamesError(f"node {node} cannot join: {reply.error.reason}")
        try:
            profile = unpack_profile(reply)
        except (KeyError, TypeError) as error:
            raise FlamesError(
                f"node {node} cannot join: its profile cannot be read ({error}); "
                "install one version everywhere"
            ) from error
        if problem := _refuse_profile(profile, size, channels, found):
            raise FlamesError(f"client {profile.client} cannot join: {problem}")
        found[profile.client] = (node, profile)
    if not found:
        raise FlamesError("no client joined the federation; expected at least one")
    return [found[name] for name in sorted(found)]


def _refuse_profile(
    profile: Profile, size: int, channels: int, found: dict[str, tuple[int, Profile]]
) -> str | None:
    if profile.protocol != PROTOCOL:
        return (
            f"it speaks protocol {profile.protocol}, this server {PROTOCOL}; install one version everywhere"
        )
    if profile.size != size:
        return f"its images are {profile.size}×{profile.size}, this federation's {size}×{size}"
    if profile.channels != channels:
        return (
            f"its images are of {profile.channels} channel(s), this federation's of {channels}; "
            "preprocess all with the same --channels"
        )
    if profile.client in found:
        return "another node has that name"
    return None


def exchange(grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
    """Send each message and give replies as they come, so that no more of them are held than must be."""
    waiting: set[str] = set()
    for message in messages:
        waiting.update(grid.push_messages([message]))
        yield from _pull(grid, waiting)
    while waiting:
        before = len(waiting)
        yield from _pull(grid, waiting)
        if len(waiting) == before:
            time.sleep(POLL_SECONDS)


def _pull(grid: Grid, waiting: set[str]) -> Iterator[Message]:
    for reply in grid.pull_messages(set(waiting)):
        waiting.discard(reply.metadata.reply_to_message_id)
        yield reply


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
            weights = state.model_for(
                profile.client, plan.algorithm.group_of(profile.client, profile.modality)
            )
            traffic.bytes_down += weights_bytes(weights)
            sent[profile.client] = time.monotonic()
            yield pack_request(plan.request(round_, profile), weights, node)

    for reply in exchange(grid, requests()):
        profile = profiles[reply.metadata.src_node_id]
        client = profile.client
        traffic.seconds[client] = time.monotonic() - sent[client]
        report, reason = _read_report(reply, profile)
        if report is None:
            traffic.failed[client] = reason
            on_event(ClientDone(client, round_, {}, reason))
            continue
        traffic.bytes_up += weights_bytes(report.weights)
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
