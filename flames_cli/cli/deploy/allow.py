"""`flames deploy allow`: the packages whose plug-ins a deployment's runs may use, or a site's node."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, AtServer, AtSite, choose_folder
from flames_cli.cli.options import Json

if TYPE_CHECKING:
    from flames_cli.store.deployment.folders import Deployment, Site


def allow(
    packages: Annotated[
        list[str],
        typer.Argument(
            help="Installed packages with plug-ins, as PACKAGE or PACKAGE==VERSION.",
        ),
    ],
    deployment: AtServer = None,
    site: AtSite = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Allow the packages no longer; they stay installed.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Allow plug-ins of installed packages: at the server for its runs, at a site for its node."""
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.plugins import allow_at_site, allow_in_deployment
    from flames_cli.store.deployment.folders import read_deployment, read_site

    chosen = choose_folder(deployment, site)
    made: Deployment | Site
    if chosen is not None:
        made = allow_at_site(read_site(chosen), packages, remove)
    else:
        made = allow_in_deployment(read_deployment(deployment or DEFAULT_DEPLOYMENT), packages, remove)
    if json_output:
        print_json(allowed_json(made))
    else:
        _print_allowed(made, at_site=chosen is not None, remove=remove)


def allowed_json(made: "Deployment | Site") -> dict[str, Any]:
    """Return the folder of a deployment or a site, and the packages that are allowed there."""
    return {"folder": str(made.path), "plugins": list(made.plugins)}


def _print_allowed(made: "Deployment | Site", at_site: bool, remove: bool) -> None:
    from flames_cli.cli.consoles import results
    from flames_cli.stages.deploy.plugins import describe_pins

    console = results()
    lines = [f"→ {made.description}  plug-in packages that are allowed: {describe_pins(made.plugins)}"]
    if at_site:
        lines.append("restart the node (`flames deploy node`) to use the change")
    elif not remove:
        pins = " ".join(made.plugins)
        lines.append("no package is sent; the owner of each site that has its folder already runs there:")
        lines.append(f"  pip install {pins}")
        lines.append(f"  flames deploy allow {pins} --site FOLDER")
    else:
        lines.append("the sites' own files do not change; runs that need the package do not start any more")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
