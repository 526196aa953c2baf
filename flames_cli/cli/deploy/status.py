"""`flames deploy status`: state of the server, its sites and its runs."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, DeploymentFolder
from flames_cli.cli.options import Json
from flames_cli.cli.text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from flames_cli.stages.deploy.run_status import RunStatus
    from flames_cli.stages.deploy.status import DeploymentStatus

WIDTH = 80
"""Largest width of the table of the runs."""

STYLES = {"online": "green", "offline": "yellow", "unregistered": "red", "not registered": "red"}


def status(deployment: DeploymentFolder = DEFAULT_DEPLOYMENT, json_output: Json = False) -> None:
    """Show, at the server, each site's state and the newest runs."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.status import read_status

    found = read_status(deployment)
    if json_output:
        print_json(asdict(found))
    else:
        _print_status(results(), found)


def _print_status(console: "Console", found: "DeploymentStatus") -> None:
    from rich.table import Table

    style = "green" if found.running and found.secure else "red"
    console.print(_server_line(found), style=style, soft_wrap=True)
    if found.sites:
        table = Table("site", "state", "since (UTC)", "node")
        for site in found.sites:
            number = "" if site.node_id is None else str(site.node_id)
            row = (site.name, site.state, _moment(site.since), number)
            table.add_row(*row, style=STYLES.get(site.state))
        console.print(table)
    if found.runs:
        _print_runs(console, found.runs)


def _print_runs(console: "Console", runs: "Sequence[RunStatus]") -> None:
    """Print two or more lines for each run, so that no name and no number is cut at 80 columns."""
    titles = ("run", "strategy", "round", "clients", "Dice", "s/round", "last round (UTC)")
    rows = [tuple(map(harmless, _cells(run))) for run in runs]
    widths = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    # A long name has a line of its own.
    widths[0] = min(widths[0], max(len("run"), WIDTH - sum(widths[1:]) - 2 * len(widths[1:])))
    console.print(_line(titles, widths), style="bold", soft_wrap=True)
    for run, (name, *cells) in zip(runs, rows, strict=True):
        if len(name) > widths[0]:
            console.print(name, soft_wrap=True, markup=False)
            name = ""
        console.print(_line((name, *cells), widths), soft_wrap=True, markup=False)
        for line in _details(run):
            console.print(f"  {harmless(line)}", style="dim", markup=False)
    console.print("clients: in the last round, of all that joined; Dice: validation, mean of images")


def _line(cells: "Sequence[str]", widths: "Sequence[int]") -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(run: "RunStatus") -> tuple[str, ...]:
    n_in, n_all = len(run.clients_in), len(run.clients_in) + len(run.clients_out)
    return (
        run.name or "(not known)",
        run.strategy or "-",
        f"{run.round} of {run.rounds}" if run.rounds else "-",
        f"{n_in} of {n_all}" if n_all else "-",
        "-" if run.dice is None else f"{run.dice:.3f}",
        "-" if run.seconds_a_round is None else f"{run.seconds_a_round:.0f}",
        _moment(run.last_round)[:16] or "-",
    )


def _details(run: "RunStatus") -> "Iterator[str]":
    yield run.state
    if run.clients_out:
        yield f"not in the last round: {', '.join(run.clients_out)}"
    for node, reason in run.rejected.items():
        yield f"{node} cannot join: {reason}"
    if run.without_model:
        yield f"have not stored their own model: {', '.join(run.without_model)}"
    if not run.name:
        began = f", began {_moment(run.began)} UTC" if run.began else ""
        yield f"Flower's number {run.run_ids[0]}{began}"


def _server_line(found: "DeploymentStatus") -> str:
    if not found.running:
        return f"no server runs on this machine for {found.superlink}; start it with `flames deploy server`"
    if not found.secure:
        return f"the server {found.superlink} runs INSECURE: without TLS, for any node"
    return f"the server {found.superlink} runs"


def _moment(iso: str | None) -> str:
    """Return a time in UTC, to the second."""
    return iso[:19].replace("T", " ") if iso else ""
