"""`flames deploy status`: who may take part, who is there, and what ran."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, DeploymentFolder
from flames_cli.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.stages.deploy.status import DeploymentStatus

STYLES = {"online": "green", "offline": "yellow", "unregistered": "red", "not registered": "red"}


def status(deployment: DeploymentFolder = DEFAULT_DEPLOYMENT, json_output: Json = False) -> None:
    """Tell, at the server, each site's state and the newest runs."""
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
        table = Table("run", "state", "began (UTC)", "ended (UTC)")
        for run in found.runs:
            table.add_row(str(run.run_id), run.status, _moment(run.started_at), _moment(run.finished_at))
        console.print(table)


def _server_line(found: "DeploymentStatus") -> str:
    if not found.running:
        return f"no server runs here for {found.superlink}; start it with `flames deploy server`"
    if not found.secure:
        return f"the server {found.superlink} runs INSECURE: without TLS, for any node"
    return f"the server {found.superlink} runs"


def _moment(iso: str | None) -> str:
    """To the second, in UTC."""
    return iso[:19].replace("T", " ") if iso else ""
