"""The choice of how the server runs a round, and the pass after the last one."""

from flwr.serverapp import Grid

from flames_cli.core.federated.reports import State
from flames_cli.fed.events import OnEvent
from flames_cli.fed.federation import Federation
from flames_cli.fed.plain_round import run_plain_round
from flames_cli.fed.plan import Plan
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.secure.final_pass import examine_by_sums
from flames_cli.fed.secure.round import run_secure_round
from flames_cli.fed.server_final_pass import FinalPass, examine_final_models
from flames_cli.fed.waiting import Work


def run_round(
    grid: Grid, federation: Federation, state: State, clients: Clients, roster: Roster
) -> Work[State]:
    """Run the round after `state` with `clients`, save it, and return the state after it.

    Raises:
        FlamesError: no client sent a good report, or no secure sum could be opened.
    """
    run = run_secure_round if federation.plan.secure else run_plain_round
    return run(grid, federation, state, clients, roster)


def examine(
    grid: Grid, plan: Plan, state: State, clients: Clients, roster: Roster, on_event: OnEvent
) -> Work[FinalPass]:
    """Let the clients examine the models of a round; return the state with the statistics of its models."""
    run = examine_by_sums if plan.secure else examine_final_models
    return run(grid, plan, state, clients, roster, on_event)
