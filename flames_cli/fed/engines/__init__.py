"""Engines: the ways to run a federation's ServerApp and ClientApp. All of them write the same files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """Properties in which engines differ for the rest of the code."""

    clients_hold_their_data: bool = False
    """True if clients run at their sites: shards, test results and client state are never on this machine."""
    needs_ray: bool = False
    """True if Flower's simulation runtime, an optional dependency, must be installed."""
    has_server: bool = True
    """False if clients are peers that exchange reports with their neighbours only."""


ENGINES = {
    "inline": Engine(),
    "ray": Engine(needs_ray=True),
    "superlink": Engine(clients_hold_their_data=True),
    "swarm": Engine(has_server=False),
}
"""Every engine by the name that `--engine` takes."""

OBSERVER = "the models of modalities are an observer's means of the last reports, and no peer has them"
"""Note on the server models of a run without a server."""
