"""A round with secure aggregation: the server learns sums over each model group, and no client's report."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.core.federated.pooled_numbers import NAMES, pool
from flames_cli.core.federated.reports import RoundResult, State
from flames_cli.core.federated.secure_blend import INVERSE, apply_sums, weighing_of
from flames_cli.errors import FlamesError
from flames_cli.fed.events import RoundDone
from flames_cli.fed.federation import Federation
from flames_cli.fed.messages import Profile
from flames_cli.fed.packing import Packer
from flames_cli.fed.plan import Plan
from flames_cli.fed.privacy_accountant import privacy_spent
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.round_record import finish_record
from flames_cli.fed.secure.asked import agree
from flames_cli.fed.secure.sums import Group, MakeRequest, Outcome, open_sums
from flames_cli.fed.secure.terms import SumTerms, round_layout
from flames_cli.fed.waiting import Work
from flames_cli.secagg.fixed_point import FIXED_POINTS
from flames_cli.secagg.session import least_reports

WORD_BITS = {"fp32": 64, "fp16": 32, "bf16": 32}
"""Bits of the words of masked vectors, by wire type."""


def run_secure_round(
    grid: Grid, federation: Federation, state: State, clients: Clients, roster: Roster
) -> Work[State]:
    """Run one round with `clients`: exchange keys and shares, send models, open the sums, blend and save.

    A round that clients have opened before, and cannot open again as it was, leaves all models as they are:
    the run goes on with the next round.

    Raises:
        FlamesError: no sum of any group could be opened, and none was before.
    """
    plan, started, round_ = federation.plan, time.monotonic(), state.round + 1
    packer = Packer(plan, state.server, [profile for _, profile in clients])

    def request(node: int, profile: Profile) -> Message:
        return packer.pack(plan.task(state, round_, profile, roster.known), profile, node)

    releases = state.releases

    def note_opening(names: list[str]) -> None:
        nonlocal releases
        releases = max(state.releases + 1, federation.note_opening(round_, names))

    groups, private = make_groups(plan, state, clients, request), plan.algorithm.privacy
    outcome = yield from open_sums(
        grid, roster, groups, request, round_, federation.on_event, note_opening if private else None
    )
    if not outcome.sums and not outcome.opened_before:
        reasons = "; ".join(f"{client}: {reason}" for client, reason in outcome.failed.items())
        raise FlamesError(
            f"round {round_} opened no secure sum ({reasons}); fix the cause, then run the same command "
            "again to continue"
        )
    result = apply_sums(
        replace(state, releases=releases), outcome.sums, plan.algorithm, plan.known_entries, plan.wire_dtype
    )
    images = {group.name: group.terms.images for group in groups}
    pooled = {
        group: {"clients": len(names)}
        if private
        else pool(list(sums.numbers[: len(NAMES)]), len(names), images[group])
        for group, (names, sums) in outcome.sums.items()
    }
    record = _record(round_, clients, result, outcome, pooled, time.monotonic() - started)
    if private:
        record |= privacy_spent(private, releases)
    federation.save(result.state, record)
    federation.on_event(RoundDone(record))
    return result.state


def make_groups(plan: Plan, state: State, clients: Clients, make_request: MakeRequest) -> list[Group]:
    """Return a new session for each model group of `clients`, in the order of the groups' names.

    Raises:
        FlamesError: clients of a group are asked for different trainings, or noise does not fit the words.
    """
    members: dict[str, Clients] = {}
    for node, profile in clients:
        members.setdefault(plan.model_group_of(profile), []).append((node, profile))
    groups = []
    for name in sorted(members):
        announced = agree((make_request(*one) for one in members[name]), name)
        terms = replace(terms_of(plan, [profile for _, profile in members[name]]), **announced)
        layout = round_layout(plan.known_entries.shared_of(state.server[name]), terms)
        bits, n = WORD_BITS[plan.wire_dtype], len(members[name])
        if terms.private:  # an error here is clearer than the same one of every client
            terms.noise_shares(layout, FIXED_POINTS[bits], n, least_reports(n))
        groups.append(Group(name, state.round + 1, members[name], terms, layout, bits))
    return groups


def terms_of(plan: Plan, profiles: list[Profile]) -> SumTerms:
    """Return the terms of the sum over the clients of one group."""
    weighing = weighing_of(plan.algorithm)
    images = [one.n_train for one in profiles]
    steps = [plan.steps_a_round(one.client, one.modality, one.n_train) for one in profiles]
    reference = {INVERSE: min(images), "examples": max(images), "steps": max(steps), "uniform": 1}[weighing]
    privacy = plan.algorithm.privacy
    return SumTerms(
        run=plan.run,
        purpose="round",
        weighing=weighing,
        reference=max(reference, 1),
        images=1 if privacy else max(1, *(one.n_val for one in profiles)),
        noise=privacy.noise if privacy else 0.0,
        clip=privacy.clip if privacy else 0.0,
        choosing=plan.algorithm.clients_choose,
    )


def _record(
    round_: int,
    clients: Clients,
    result: RoundResult,
    outcome: Outcome,
    pooled: Mapping[str, Mapping[str, float]],
    seconds: float,
) -> dict[str, Any]:
    """Return the round's line in rounds.jsonl: it has no number of a single client but its time."""
    begun = {
        "round": round_,
        "seconds": round(seconds, 3),
        "clients": [
            {
                "client": profile.client,
                "modality": profile.modality,
                "seconds": round(outcome.seconds.get(profile.client, 0.0), 3),
                **(
                    {"rejection_reason": outcome.failed[profile.client]}
                    if profile.client in outcome.failed
                    else {}
                ),
            }
            for _, profile in clients
        ],
        "groups": {group: dict(numbers) for group, numbers in pooled.items()},
    }
    return finish_record(begun, result, outcome.failed, outcome.bytes_down, outcome.bytes_up)
