"""`flames deploy identity` and `pin`: a site's identity, and those of other sites that its owner pins."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flames_cli.cli.deploy.options import SiteFolder
from flames_cli.cli.options import Json

if TYPE_CHECKING:
    from flames_cli.store.deployment.folders import Site


def identity(site: SiteFolder = None, json_output: Json = False) -> None:
    """Show this site's identity for secure aggregation, to compare with other sites; make it if needed."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.identity import site_identity

    found = _read(site)
    text = site_identity(found)
    if json_output:
        print_json({"client": found.name, "identity": text, "peers": dict(found.peers)})
        return
    console = results()
    for line in (
        f"{found.name}={text}",
        f"the private key {found.identity} never leaves this machine",
        "compare the line with each other site, for example by telephone, and never through the server;",
        f"then at each other site: flames deploy pin {found.name}={text}",
    ):
        console.print(line, soft_wrap=True, markup=False)


def pin(
    peers: Annotated[
        list[str],
        typer.Argument(help="Other sites' identities, as CLIENT=ed25519:… (`flames deploy identity`)."),
    ],
    site: SiteFolder = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove these clients from the pinned ones.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Pin the other sites' identities: the node then shares secure sums with these sites alone."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.identity import pin_peers, unpin_peers

    changed = (unpin_peers if remove else pin_peers)(_read(site), peers)
    if json_output:
        print_json({"client": changed.name, "peers": dict(changed.peers)})
        return
    console = results()
    for line in (
        f"→ {changed.description}  sites with a pinned identity: {', '.join(changed.peers) or 'none'}",
        "restart the node (`flames deploy node`) to use the change",
    ):
        console.print(line, soft_wrap=True, markup=False)


def _read(folder: Path | None) -> "Site":
    from flames_cli.store.deployment.folders import read_site

    return read_site(folder or Path())
