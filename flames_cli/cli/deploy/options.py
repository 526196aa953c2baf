"""Options that the commands of a deployment share."""

from pathlib import Path
from typing import Annotated

import typer

from flames_cli.errors import FlamesError

DEFAULT_DEPLOYMENT = Path("flames-deployment")

DeploymentFolder = Annotated[
    Path, typer.Option("--deployment", help="Folder that `flames deploy init` made.")
]

AtServer = Annotated[
    Path | None,
    typer.Option(
        "--deployment", help="Folder of the deployment (at the server).", show_default="flames-deployment"
    ),
]
AtSite = Annotated[
    Path | None,
    typer.Option(
        "--site",
        help="Folder from the server (at a site).",
        show_default="this folder, if it has a site.toml",
    ),
]
SiteFolder = Annotated[
    Path | None,
    typer.Option(
        "--site",
        help="This site's folder from the server.",
        show_default="this folder, if it has a site.toml",
    ),
]

Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="Package whose plug-ins runs may use, as PACKAGE or PACKAGE==VERSION; repeatable. It must be "
        "installed here and at the sites, and is never sent.",
        show_default="none",
    ),
]


def choose_folder(deployment: Path | None, site: Path | None) -> Path | None:
    """Return the site's folder if a command is for a site, or None if it is for the server.

    Without any option it is for the site whose folder is the current one, if it is one.

    Raises:
        FlamesError: both were passed.
    """
    if site is None and deployment is None and Path("site.toml").is_file():
        return Path()
    if site is not None and deployment is not None:
        raise FlamesError("--deployment is for the server and --site for a site; pass one of them")
    return site
