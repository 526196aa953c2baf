"""Flower app of `engines.py`: clients that add a constant, for FLAMES' server or Flower's own FedAvg.

    python benchmarks/engines_app.py ARM CLIENTS MEGABYTES ROUNDS       # in one process

A SuperLink loads `server_app` and `client_app` by name. The run's configuration names the arm, the size of
the model, the number of rounds after a first one, and the file that gets the times.
"""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from scale_arm import SIZE, Watch, make_client, make_flower, make_weights

from flames_cli.arrays import Weights
from flames_cli.core.federated.reports import State
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines.inline import FIRST_NODE, make_contexts, run_inline
from flames_cli.fed.federation import Federation
from flames_cli.fed.participation import Participation
from flames_cli.fed.plan import Plan
from flames_cli.fed.server import run_rounds

WAIT_SECONDS = 120.0
"""Time that the simulated nodes have to start."""

client_app = make_client(Watch())
server_app = ServerApp()


@dataclass(frozen=True, slots=True)
class Arm:
    """One server, and the number and size of its clients."""

    name: str
    """"flower", or one of FLAMES' strategies."""
    clients: int
    megabytes: float
    rounds: int
    """Number of rounds after the first."""

    def run(self, grid: Grid, context: Context) -> list[float]:
        """Run the rounds, and return the time of their start and of the end of each."""
        weights, watch = make_weights(self.megabytes), Watch()
        if self.name == "flower":  # it marks the start itself
            make_flower(weights, self.rounds + 1, watch)(grid, context)
        else:
            run_ours(grid, self, weights, watch)
        return watch.wall


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the arm that the run's configuration names, and write its times."""
    config = {name: str(value) for name, value in context.run_config.items()}
    arm = Arm(config["arm"], int(config["clients"]), float(config["megabytes"]), int(config["rounds"]))
    Path(config["out"]).write_text(json.dumps(arm.run(grid, context)), encoding="utf-8")


def run_here(arm: Arm) -> None:
    """Run the arm in this process, and print its times."""
    app, marks = ServerApp(), list[float]()

    @app.main()
    def rounds(grid: Grid, context: Context) -> None:
        marks.extend(arm.run(grid, context))

    names = {FIRST_NODE + i: {"client": f"client-{i:03d}"} for i in range(arm.clients)}
    run_inline(app, client_app, make_contexts(names))
    print(json.dumps(marks))


def run_ours(grid: Grid, arm: Arm, weights: Weights, watch: Watch) -> None:
    """Run FLAMES' own server over Flower's grid; it writes no files."""

    def save(state: State, record: object) -> None:  # noqa: ARG001 (the server gives both)
        watch.end_round(next(iter(state.server.values())))

    watch.end_round(weights)
    plan = Plan(get_algorithm(arm.name), arm.rounds + 1, 0, "stub", {}, weights, SIZE)
    participation = Participation(expected_nodes=arm.clients, join_timeout_s=WAIT_SECONDS)
    run_rounds(grid, Federation(plan, save, participation=participation))


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_here(Arm(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
