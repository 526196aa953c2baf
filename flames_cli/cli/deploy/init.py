"""`flames deploy init`, `add`, `remove`, `key` and `renew`: the files of a deployment."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, Allow, DeploymentFolder
from flames_cli.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.store.deployment.folders import Deployment, Site

Days = Annotated[
    int, typer.Option("--days", help="Number of days for which the server's certificate is valid.")
]
DEFAULT_DAYS = 825


def init(
    host: Annotated[
        str, typer.Option("--host", help="Name or IP address by which the sites reach the server.")
    ],
    site: Annotated[
        list[str],
        typer.Option("--site", help="Name of a site, such as hospital-a; repeat the option for each site."),
    ],
    port: Annotated[int, typer.Option("--port", help="TCP port of the server.")] = 9092,
    days: Days = DEFAULT_DAYS,
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")] = DEFAULT_DEPLOYMENT,
    allow: Allow = None,
    json_output: Json = False,
) -> None:
    """Make a deployment: certificates, and a folder with its own keys for every site."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import init_deployment

    made = init_deployment(out, host, port, site, days, allow or ())
    if json_output:
        print_json(deployment_json(made))
    else:
        _print_made(results(), made, days)


def add(
    name: Annotated[str, typer.Argument(help="Name of the new site.")],
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key",
            help="node.pub of a key pair that the site made itself.",
            show_default="a new key pair",
        ),
    ] = None,
    allow: Allow = None,
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Add a site to a deployment; a running server admits it without a restart."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import add_site
    from flames_cli.store.deployment.folders import read_deployment

    made = add_site(read_deployment(deployment), name, public_key, allow or ())
    if json_output:
        print_json(site_json(made))
    else:
        _print_site(results(), made)


def remove(
    name: Annotated[str, typer.Argument(help="Name of the site.")],
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Remove a site from a deployment; a running server removes its key within seconds."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import remove_site
    from flames_cli.store.deployment.folders import read_deployment

    left = remove_site(read_deployment(deployment), name)
    if json_output:
        print_json(deployment_json(left))
        return
    console = results()
    _say(
        console,
        f"{name} is no longer admitted; a running server removes its key permanently now, another one",
    )
    _say(
        console,
        "at its next start. To admit the site again, move its folder away and use `flames deploy add`",
    )


def key(
    name: Annotated[str, typer.Argument(help="Name of the site that this machine belongs to.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write node.key and node.pub to.")],
    json_output: Json = False,
) -> None:
    """Make a site's key pair at the site, so that its private key is never sent."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import make_key

    private, public = make_key(name, out)
    if json_output:
        print_json({"name": name, "private_key": str(private), "public_key": str(public)})
        return
    console = results()
    _say(console, f"→ {private}  stays here: copy it to the folder that {name} will get from the server")
    _say(console, f"→ {public}  goes to the server: `flames deploy add {name} --public-key node.pub`")


def renew(
    days: Days = DEFAULT_DAYS,
    deployment: DeploymentFolder = DEFAULT_DEPLOYMENT,
    json_output: Json = False,
) -> None:
    """Make a new certificate for the server; the sites' folders need no change."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.init import renew_certificate

    made = renew_certificate(deployment, days)
    if json_output:
        print_json(deployment_json(made))
        return
    _say(results(), f"→ {made.server_certificate}  is valid for {days} days; restart the server to use it")


def deployment_json(deployment: "Deployment") -> dict[str, Any]:
    """Return the folders and names of a deployment, without keys."""
    sites = [site_json(deployment.site(name)) for name in deployment.sites]
    return {
        "deployment": str(deployment.path),
        "superlink": deployment.superlink,
        "sites": sites,
        "plugins": list(deployment.plugins),
    }


def site_json(site: "Site") -> dict[str, Any]:
    """Return a site's name and folder."""
    return {"name": site.name, "folder": str(site.path)}


def _print_made(console: "Console", made: "Deployment", days: int) -> None:
    _say(console, f"made a certificate authority, and a certificate for {made.host} for {days} days")
    for name in made.sites:
        _print_site(console, made.site(name))
    _say(console, f"the rest of {made.path} stays on this machine: ca.key and server.key never leave it")
    where = "" if made.path == DEFAULT_DEPLOYMENT else f" --deployment {shlex.quote(str(made.path))}"
    _say(console, f"next: open TCP port {made.port} to the sites, then `flames deploy check{where}`")
    _say(console, f"and `flames deploy server{where}`")


def _print_site(console: "Console", site: "Site") -> None:
    _say(console, f"→ {site.path}  goes to {site.name}")
    if site.private_key.exists():
        _say(
            console, "  it contains a private key: send it encrypted, and delete its node.key here afterwards"
        )
    else:
        _say(console, "  it contains no private key: the site adds its own node.key")
    if site.plugins:
        _say(console, f"  its owner installs the plug-ins: pip install {' '.join(site.plugins)}")


def _say(console: "Console", line: str) -> None:
    """Print a line without line breaks, so that it can be copied."""
    console.print(line, soft_wrap=True)
