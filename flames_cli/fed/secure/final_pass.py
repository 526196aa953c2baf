"""The pass after the last round with secure aggregation: sums of BatchNorm's moments and of validations.

Each client estimates the statistics of its own final model and stores them: they never leave it. The server
gets Σ c·E[x] and Σ c·E[x²] over the clients of a model, whose factors c are their numbers of training images
divided by the largest one, and with them the statistics over all images together.

A client of FLAMES must not get the server's model: together with the mean M of the same round it would reveal
the weights of the others if they are two. Its moments are therefore those of its own blend, and the server's
model of FLAMES has the statistics of its clients' blends together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.arrays import Weights
from flames_cli.core.federated.final_statistics import FinalStatistics, statistics_of
from flames_cli.core.federated.pooled_numbers import pool
from flames_cli.core.federated.reports import State
from flames_cli.core.federated.sum_layout import Sums
from flames_cli.fed.events import OnEvent
from flames_cli.fed.final_report import MESSAGE_TYPE, FinalReport
from flames_cli.fed.messages import Profile
from flames_cli.fed.packing import Packer
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.secure.asked import agree
from flames_cli.fed.secure.final_vector import RECEIVED, from_moments, moments_layout
from flames_cli.fed.secure.sums import Group, Outcome, open_sums
from flames_cli.fed.secure.terms import SumTerms
from flames_cli.fed.server_final_pass import FinalPass
from flames_cli.fed.waiting import Work
from flames_cli.secagg.session import FEWEST

WORD_BITS = 64
"""Bits of the words, whatever the wire type: the vectors are small, and moments may be large."""


def examine_by_sums(
    grid: Grid, plan: Plan, state: State, clients: Clients, roster: Roster, on_event: OnEvent
) -> Work[FinalPass]:
    """Ask all present clients about the final models, of which the server learns sums over their groups.

    A group whose sum is not opened keeps the statistics of its blend, and `missing` has the reason. With
    differential privacy no client is asked.
    """
    if plan.algorithm.privacy:  # no noise covers these numbers
        return FinalPass(replace(state, statistics=FinalStatistics()), [], {}, groups={})
    used = {group: state.used_server_model(group) for group in state.server}
    packer = Packer(plan, used, [profile for _, profile in clients])

    def request(node: int, profile: Profile) -> Message:
        return packer.pack(plan.final_task(state, profile), profile, node, MESSAGE_TYPE)

    profiles = {profile.client: profile for _, profile in clients}
    missing = {
        client: "it was not present after the last round"
        for client in state.clients
        if client not in profiles
    }
    parts, alone = divide(plan, clients)
    missing |= {
        profile.client: f"a sum needs {FEWEST} clients of its model, and fewer are present"
        for _, profile in alone
    }
    groups = [
        _session(plan, state, name, members, clients, agree((request(*one) for one in members), name))
        for name, members in parts.items()
    ]
    outcome = yield from open_sums(grid, roster, groups, request, state.round, on_event)
    reported = sorted(name for names, _ in outcome.sums.values() for name in names)
    statistics, numbers = assemble(plan, state, profiles, outcome, _largest_validation(clients))
    return FinalPass(
        state=replace(state, statistics=statistics),
        reports=[FinalReport(name, profiles[name].modality, state.round, 0) for name in reported],
        missing={**missing, **outcome.failed},
        groups=numbers,
    )


def divide(plan: Plan, clients: Clients) -> tuple[dict[str, Clients], Clients]:
    """Return the clients of each sum by its name, and the clients whose group is too small for one.

    The clients of a model of all clients are divided by modality, since it gets statistics for each, unless
    a modality has too few of them: the difference of two sums would show its clients.
    """
    parts: dict[str, Clients] = {}
    modalities: dict[str, Clients] = {}
    for one in clients:
        parts.setdefault(plan.model_group_of(one[1]), []).append(one)
        modalities.setdefault(one[1].modality, []).append(one)
    enough = all(len(members) >= FEWEST for members in modalities.values())
    if plan.algorithm.has_one_model and enough:
        parts = modalities
    able = {name: parts[name] for name in sorted(parts) if len(parts[name]) >= FEWEST}
    return able, [one for name, members in parts.items() if name not in able for one in members]


def _session(
    plan: Plan, state: State, name: str, members: Clients, clients: Clients, announced: Mapping[str, Any]
) -> Group:
    """Return a new session of some of the `clients`; all sums have the same units, and can be added."""
    terms = SumTerms(
        run=plan.run,
        purpose="final",
        weighing="examples",
        reference=max(profile.n_train for _, profile in clients),
        images=_largest_validation(clients),
        **announced,
    )
    expected = _expected(plan, state, plan.model_group_of(members[0][1]))
    return Group(name, state.round, members, terms, moments_layout(expected), WORD_BITS)


def _largest_validation(clients: Clients) -> int:
    return max([1, *(profile.n_val for _, profile in clients)])


def _expected(plan: Plan, state: State, group: str) -> Weights:
    """Return the entries whose statistics clients estimate."""
    shared = plan.known_entries.shared_of(state.server[group])
    return dict(sorted(statistics_of(shared).items())) if plan.reports_statistics else {}


def assemble(
    plan: Plan, state: State, profiles: Mapping[str, Profile], outcome: Outcome, images: int
) -> tuple[FinalStatistics, dict[str, dict[str, float]]]:
    """Return the statistics of the server's models, and the numbers of each group's clients together."""

    def statistics(group: str, sums: Sums) -> Weights:
        made = from_moments(sums, _expected(plan, state, group))
        return {name: array for name, array in made.items() if name not in plan.known_entries.frozen}

    groups: dict[str, list[Sums]] = {}
    clients: Counter[str] = Counter()
    modalities: dict[str, Weights] = {}
    for name, (names, sums) in outcome.sums.items():
        group = plan.model_group_of(profiles[names[0]])
        groups.setdefault(group, []).append(sums)
        clients[group] += len(names)
        if group != name:
            modalities[name] = statistics(group, sums)
    totals = {group: _add(parts) for group, parts in groups.items()}
    numbers = {group: _pool(total, clients[group], images) for group, total in totals.items()}
    found = {group: statistics(group, total) for group, total in totals.items()}
    return FinalStatistics(groups=found, modalities=modalities), numbers


def _add(parts: Sequence[Sums]) -> Sums:
    """Return the sum over the clients of all parts."""
    entries = parts[0].weighted
    return Sums(
        weighted={name: np.add.reduce([one.weighted[name] for one in parts]) for name in entries},
        plain={},
        factor=sum(one.factor for one in parts),
        numbers=np.add.reduce([one.numbers for one in parts]),
    )


def _pool(sums: Sums, clients: int, images: int) -> dict[str, float]:
    found = pool(list(sums.numbers), clients, images)
    return {name.removeprefix(RECEIVED): value for name, value in found.items() if name != "train_loss"}
