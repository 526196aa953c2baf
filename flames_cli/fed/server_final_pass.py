"""The server's side of the pass after the last round: statistics and validation of the final models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from flames_cli.arrays import Weights
from flames_cli.core.federated.candidates import Offer
from flames_cli.core.federated.choice import presence_reason
from flames_cli.core.federated.final_statistics import (
    FinalStatistics,
    pool_statistics,
    statistics_of,
)
from flames_cli.core.federated.reports import State, find_fault, find_negative_variance, select
from flames_cli.core.federated.wire import as_received
from flames_cli.fed.choice_records import patients_reason
from flames_cli.fed.events import ClientAsked, OnEvent
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.final_report import MESSAGE_TYPE, FinalReport, unpack_final
from flames_cli.fed.messages import Profile, validation_fault
from flames_cli.fed.offers import Offers
from flames_cli.fed.packing import Packer
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.waiting import Work


@dataclass(frozen=True, slots=True)
class FinalPass:
    """Result of the pass."""

    state: State
    """The state with the statistics of its models."""
    reports: list[FinalReport]
    """The clients' reports, sorted by name."""
    missing: dict[str, str] = field(default_factory=dict)
    """Reason of each client without a usable report."""
    groups: Mapping[str, Mapping[str, float]] | None = None
    """Numbers of the clients of each model group together, with secure aggregation; None: without."""

    def as_json(self) -> dict[str, Any]:
        """Return the entry of this round for final-models.json."""
        if self.groups is not None:
            return {
                "round": self.state.round,
                "clients": [{"client": one.client, "modality": one.modality} for one in self.reports],
                "groups": {group: dict(numbers) for group, numbers in self.groups.items()},
                "missing": self.missing,
            }
        clients = [
            {
                "client": report.client,
                "modality": report.modality,
                "n_examples": report.n_examples,
                "statistics": bool(report.own),
                **report.validation,
                **(report.choice.as_json() if report.choice else {}),
            }
            for report in self.reports
        ]
        return {"round": self.state.round, "clients": clients, "missing": self.missing}


def examine_final_models(
    grid: Grid, plan: Plan, state: State, clients: Clients, roster: Roster, on_event: OnEvent
) -> Work[FinalPass]:
    """Ask all present clients about the final models, and pool the statistics of the server's models.

    A client without a usable report keeps the statistics of its blend, and `missing` has the reason.
    """
    profiles = dict(clients)
    used = {group: state.used_server_model(group) for group in state.server}
    packer, offers = Packer(plan, used, profiles.values()), Offers(plan, state)

    def requests() -> Iterator[Message]:
        for node, profile in clients:
            on_event(ClientAsked(profile.client, state.round))
            task = offers.add_to(plan.final_task(state, profile), profile)
            yield packer.pack(task, profile, node, MESSAGE_TYPE)

    asked = {profile.client for _, profile in clients}
    missing = {
        client: "it was not present after the last round" for client in state.clients if client not in asked
    }
    reports: list[FinalReport] = []
    for reply in exchange(grid, requests(), roster.terms()):
        if reply is None:
            yield None
            continue
        roster.settle(reply)
        profile = profiles[reply.node]
        report, reason = _read(reply, plan, state, profile, offers.is_made_to(profile))
        if report is None:
            missing[profile.client] = reason
        else:
            reports.append(report)
    reports.sort(key=lambda report: report.client)
    trained = [_without_frozen(report, plan.known_entries.frozen) for report in reports]
    found = _collect(plan, profiles.values(), trained)
    chosen = _chosen_models(plan, offers, profiles.values(), reports)
    models = {**found.clients, **{name: {**chosen[name], **found.clients.get(name, {})} for name in chosen}}
    return FinalPass(replace(state, statistics=replace(found, clients=models)), reports, missing)


def _without_frozen(report: FinalReport, frozen: Set[str]) -> FinalReport:
    """Return `report` without the statistics of frozen entries, which are the server's own."""
    kept = (
        {name: array for name, array in found.items() if name not in frozen}
        for found in (report.own, report.server)
    )
    own, server = kept
    return replace(report, own=own, server=server)


def _chosen_models(
    plan: Plan, offers: Offers, profiles: Iterable[Profile], reports: Sequence[FinalReport]
) -> dict[str, Weights]:
    """Return the model that each client has chosen, made of what the client has received."""
    choices = {report.client: report.choice for report in reports if report.choice}
    chosen: dict[str, Weights] = {}
    for profile in profiles:
        choice, offer = choices.get(profile.client), offers.to(profile)
        if choice and offer:
            received = Offer(
                own=as_received(offer.own, plan.wire_dtype),
                blend=as_received(offer.blend, plan.wire_dtype),
                prior=offer.prior,
            )
            kept = select(offer.own, plan.known_entries.frozen)
            chosen[profile.client] = {**received.candidate(choice.pick), **kept}
    return chosen


def _read(
    reply: Reply, plan: Plan, state: State, profile: Profile, offered: bool
) -> tuple[FinalReport | None, str]:
    """Return (the report, ""), or (None, the reason why it cannot be used)."""
    report, reason = reply.read(unpack_final, "report on the final models")
    if report is None:
        return None, reason
    if (report.client, report.modality) != (profile.client, profile.modality):
        return None, sanitise(f"it reports as '{report.client}', it joined as '{profile.client}'")
    if report.round != state.round:
        return None, f"it reports on round {report.round}, expected round {state.round}"
    if not 0 < report.n_examples <= profile.n_train:
        return None, f"it reports {report.n_examples} examples, it joined with {profile.n_train}"
    if reason := presence_reason(report.choice, offered) or patients_reason(report.choice, profile.n_val):
        return None, reason
    if impossible := validation_fault(report.validation, profile):
        return None, impossible
    group = plan.model_group_of(profile)
    expected = statistics_of(plan.known_entries.shared_of(state.server[group]))
    if not plan.reports_statistics:
        expected = {}
    has_own_model = profile.client in state.personal
    for statistics, wanted in ((report.own, expected), (report.server, expected if has_own_model else {})):
        fault = find_fault(statistics, wanted) or find_negative_variance(
            statistics, plan.known_entries.variances
        )
        if fault:
            return None, sanitise(f"its statistics: {fault}")
    return report, ""


def _collect(plan: Plan, profiles: Iterable[Profile], reports: Sequence[FinalReport]) -> FinalStatistics:
    """Return the clients' statistics, and those of each server model over all images of its clients.

    A model of all clients also gets statistics for each modality, since images of one modality are what it
    is used on.
    """
    group_of = {profile.client: plan.model_group_of(profile) for profile in profiles}
    one_model = plan.algorithm.has_one_model
    return FinalStatistics(
        # Copies, since the arrays of a report are views of its message's memory.
        clients={
            report.client: {name: array.copy() for name, array in report.own.items()}
            for report in reports
            if report.own
        },
        groups=_pool((group_of[report.client], report) for report in reports),
        modalities=_pool((report.modality, report) for report in reports) if one_model else {},
    )


def _pool(reports: Iterable[tuple[str, FinalReport]]) -> dict[str, Weights]:
    """Return the statistics of the server's model over the images of all reports with the same key."""
    parts: dict[str, list[tuple[Weights, int]]] = {}
    for key, report in reports:
        if found := report.server or report.own:
            parts.setdefault(key, []).append((found, report.n_examples))
    return {key: pool_statistics(of_key) for key, of_key in parts.items()}
