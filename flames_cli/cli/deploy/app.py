"""`flames deploy`: the commands of a federation between machines."""

import typer

from flames_cli.cli.deploy.allow import allow
from flames_cli.cli.deploy.check import check
from flames_cli.cli.deploy.identity import identity, pin
from flames_cli.cli.deploy.init import add, init, key, remove, renew
from flames_cli.cli.deploy.node import node
from flames_cli.cli.deploy.server import server
from flames_cli.cli.deploy.status import status

SET_UP, RUN = "Set up", "Run"

# A plain group: the group of `flames` handles all errors in the same way.
deploy = typer.Typer(
    help="A federation between machines: one server, and a node at every site.\n\n"
    "At the server: init, check, server, status. At each site: identity, check, node.",
    no_args_is_help=True,
)

deploy.command(rich_help_panel=SET_UP)(init)
deploy.command(rich_help_panel=SET_UP)(add)
deploy.command(rich_help_panel=SET_UP)(remove)
deploy.command(rich_help_panel=SET_UP)(allow)
deploy.command(rich_help_panel=SET_UP)(key)
deploy.command(rich_help_panel=SET_UP)(identity)
deploy.command(rich_help_panel=SET_UP)(pin)
deploy.command(rich_help_panel=SET_UP)(renew)
deploy.command(rich_help_panel=RUN)(check)
deploy.command(rich_help_panel=RUN)(server)
deploy.command(rich_help_panel=RUN)(node)
deploy.command(rich_help_panel=RUN)(status)
