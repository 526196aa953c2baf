"""`flames deploy server`: the server of a federation between machines."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, DeploymentFolder
from flames_cli.cli.deploy.running import INSECURE_SERVER, line_printer, print_warning

if TYPE_CHECKING:
    from pathlib import Path


def server(
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    bind: Annotated[
        str | None,
        typer.Option(
            "--bind",
            help="IP address of this machine to listen at.",
            show_default="0.0.0.0 (all), or :: if the host is an IPv6 address; with --insecure 127.0.0.1",
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without TLS and without keys: for a trial on one machine.")
    ] = False,
) -> None:
    """Run the server until Ctrl-C: sites connect to it, and `flames federate` on this machine starts runs."""
    from flames_cli.cli.consoles import results
    from flames_cli.stages.deploy.server import serve

    if insecure:
        print_warning(INSECURE_SERVER)
    console = results()

    def print_next_steps() -> None:
        for line in _next_steps(deployment, insecure):
            console.print(line, soft_wrap=True)

    serve(deployment, bind, insecure, line_printer(console), print_next_steps)


def _next_steps(deployment: "Path", insecure: bool) -> list[str]:
    where = "" if deployment == DEFAULT_DEPLOYMENT else f" --deployment {shlex.quote(str(deployment))}"
    options = " --insecure --superlink HOST:PORT" if insecure else ""
    return [
        f"next: at each site `flames deploy node --shard FILE.h5{options}`,",
        f"then here, in another terminal, `flames federate --engine superlink{where}`;",
        f"`flames deploy status{where}` shows the sites; Ctrl-C ends the server",
    ]
