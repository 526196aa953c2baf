"""The choice of how the server runs a round."""

from flwr.serverapp import Grid

from flames_cli.core.federated.reports import State
from flames_cli.fed.federation import Federation
from flames_cli.fed.plain_round import run_plain_round
from flames_cli.fed.roster import Clients, Roster
from flames_cli.fed.secure.round import run_secure_round
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
