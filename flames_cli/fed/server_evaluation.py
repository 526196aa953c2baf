"""The server's side of the final evaluation: every client evaluates its final model on its own test set."""

from collections.abc import Iterator

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from flames_cli.core.federated.reports import State
from flames_cli.fed.evaluation_report import EvaluationReport, unpack_evaluation
from flames_cli.fed.events import ClientAsked, OnEvent
from flames_cli.fed.exchange import Reply, exchange
from flames_cli.fed.messages import Profile
from flames_cli.fed.packing import Packer
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.sanitise import sanitise
from flames_cli.fed.waiting import Work


def collect_evaluations(
    grid: Grid, plan: Plan, state: State, clients: Clients, roster: Roster, on_event: OnEvent
) -> Work[tuple[list[EvaluationReport], dict[str, str]]]:
    """Return the clients' reports, sorted by name, and the reason of each client that sent none."""
    profiles = dict(clients)
    used = {group: state.used_server_model(group) for group in state.server}
    packer = Packer(plan, used, profiles.values())

    def requests() -> Iterator[Message]:
        for node, profile in clients:
            task = plan.evaluation_task(state, profile)
            on_event(ClientAsked(profile.client, state.round))
            yield packer.pack(task, profile, node, MessageType.EVALUATE)

    asked = {profile.client for _, profile in clients}
    missing = {
        client: "it was not present for the evaluation" for client in state.clients if client not in asked
    }
    reports = []
    for reply in exchange(grid, requests(), roster.terms()):
        if reply is None:
            yield None
            continue
        roster.settle(reply)
        profile = profiles[reply.node]
        report, reason = _read(reply, profile)
        if report:
            reports.append(report)
        else:
            missing[profile.client] = reason
    return reports, missing


def _read(reply: Reply, profile: Profile) -> tuple[EvaluationReport | None, str]:
    report, reason = reply.read(unpack_evaluation, "evaluation report")
    if report and report.client != profile.client:
        return None, sanitise(f"it reports as '{report.client}', it joined as '{profile.client}'")
    return report, reason
