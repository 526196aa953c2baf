"""`flames deploy init`, `add`, `key` and `renew`: what a deployment is made of."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, DeploymentFolder
from flames_cli.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.store.deployment.folders import Deployment, Site

Days = Annotated[int, typer.Option("--days", help="How long the server's certificate holds.")]
DEFAULT_DAYS = 825


def init(
    host: Annotated[
        str, typer.Option("--host", help="Name or IP address by which the sites reach the server.")
    ],
    site: Annotated[
        list[str], typer.Option("--site", help="Name of a site, such as hospital-a; give one for each.")
    ],
    port: Annotated[int, typer.Option("--port", help="TCP port of the server.")] = 9092,
    days: Days = DEFAULT_DAYS,
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")] = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Make a deployment: certificates, and a folder with its own keys for every site."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import init_deployment

    made = init_deployment(out, host, port, site, days)
    if json_output:
        print_json(deployment_json(made))
    else:
        _print_made(results(), made, days)


def add(
    name: Annotated[str, typer.Argument(help="Name of the new site.")],
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key", help="node.pub of a key pair that the site made itself.", show_default="made here"
        ),
    ] = None,
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Add a site to a deployment; a server that runs takes it up."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import add_site
    from flames_cli.store.deployment.folders import read_deployment

    made = add_site(read_deployment(deployment), name, public_key)
    if json_output:
        print_json(site_json(made))
    else:
        _print_site(results(), made)


def remove(
    name: Annotated[str, typer.Argument(help="Name of the site.")],
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Let a site take part no more; a server that runs takes its key back within seconds."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import remove_site
    from flames_cli.store.deployment.folders import read_deployment

    left = remove_site(read_deployment(deployment), name)
    if json_output:
        print_json(deployment_json(left))
        return
    console = results()
    _say(console, f"{name} may no longer take part; its key is taken back for ever by the server that runs,")
    _say(
        console, "or when it starts. To let it in again: move its folder away and `flames deploy add` it anew"
    )


def key(
    name: Annotated[str, typer.Argument(help="Name of the site that this machine belongs to.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write node.key and node.pub to.")],
    json_output: Json = False,
) -> None:
    """Make a site's key pair at the site, so that its private key never travels."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import make_key

    private, public = make_key(name, out)
    if json_output:
        print_json({"name": name, "private_key": str(private), "public_key": str(public)})
        return
    console = results()
    _say(console, f"→ {private}  stays here: put it into the folder that the server will give to {name}")
    _say(console, f"→ {public}  goes to the server: `flames deploy add {name} --public-key node.pub`")


def renew(
    days: Days = DEFAULT_DAYS,
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Give the server a new certificate; the sites' folders stay as they are."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import renew_certificate

    made = renew_certificate(deployment, days)
    if json_output:
        print_json(deployment_json(made))
        return
    _say(results(), f"→ {made.server_certificate}  holds for {days} days; start the server anew to show it")


def deployment_json(deployment: "Deployment") -> dict[str, Any]:
    """What was made and where; no key."""
    sites = [site_json(deployment.site(name)) for name in deployment.sites]
    return {"deployment": str(deployment.path), "superlink": deployment.superlink, "sites": sites}


def site_json(site: "Site") -> dict[str, Any]:
    """A site's name and folder."""
    return {"name": site.name, "folder": str(site.path)}


def _print_made(console: "Console", made: "Deployment", days: int) -> None:
    _say(console, f"made a certificate authority, and a certificate for {made.host} of {days} days")
    for name in made.sites:
        _print_site(console, made.site(name))
    _say(console, f"the rest of {made.path} stays on this machine: ca.key and server.key never leave it")
    where = "" if made.path == DEFAULT_DEPLOYMENT else f" --deployment {shlex.quote(str(made.path))}"
    _say(console, f"next: open TCP port {made.port} to the sites, then `flames deploy check{where}`")
    _say(console, f"and `flames deploy server{where}`")


def _print_site(console: "Console", site: "Site") -> None:
    _say(console, f"→ {site.path}  goes to {site.name}")
    if site.private_key.exists():
        _say(console, "  it holds a private key: send it encrypted, and delete its node.key here afterwards")
    else:
        _say(console, "  it holds no private key: the site puts its own node.key there")


def _say(console: "Console", line: str) -> None:
    """Never broken: it is to be copied."""
    console.print(line, soft_wrap=True)
