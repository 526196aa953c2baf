"""Other runs of a server, whose nodes work for one run at a time."""

from collections.abc import Iterable

from flames_cli.stages.deploy.run_status import RunStatus

GOING_ON = ("running", "waiting", "ending")
"""First words of the state of a run that is going on."""


def describe_other_runs(runs: Iterable[RunStatus], own: str, seconds: float) -> list[str]:
    """Return a note for each run that is going on at the server besides the run `own`.

    `seconds` is the time that this run waits for enough clients.
    """
    return [
        f"the server's nodes also work for {_describe(run)}, and for one run at a time: requests of this run "
        f"wait until a node is free, at most {seconds:g} s before a round starts; pass a larger "
        "--wait-for-clients, or start this run when that one has ended (`flames deploy status` shows it)"
        for run in runs
        if run.name != own and run.state.startswith(GOING_ON)
    ]


def _describe(run: RunStatus) -> str:
    name = f"run '{run.name}'" if run.name else f"run {run.run_ids[0]} of Flower"
    done = f", round {run.round} of {run.rounds} is done" if run.rounds else ""
    clients = f", clients {', '.join(run.clients_in)}" if run.clients_in else ""
    return f"{name} ({run.state}{done}{clients})"
