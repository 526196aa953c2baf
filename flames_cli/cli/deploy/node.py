"""`flames deploy node`: a site's part of a federation between machines."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flames_cli.cli.deploy.options import SiteFolder
from flames_cli.cli.deploy.running import INSECURE_NODE, line_printer, print_warning
from flames_cli.cli.options import DeviceName, PrecisionName

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.fed.messages import Profile
    from flames_cli.fed.node import NodeSettings
    from flames_cli.store.deployment.folders import Site


def node(
    shard: Annotated[
        list[Path],
        typer.Option("--shard", help="The client's data (.h5); several files are pooled."),
    ],
    site: SiteFolder = None,
    superlink: Annotated[
        str | None,
        typer.Option("--superlink", help="HOST:PORT of the server.", show_default="from the folder"),
    ] = None,
    min_examples: Annotated[
        int,
        typer.Option("--min-examples", min=1, help="Do not take part with fewer training images than this."),
    ] = 1,
    per_case: Annotated[
        bool,
        typer.Option(
            "--per-case", help="Report the score of each test case to the server, not only the mean."
        ),
    ] = False,
    require_secure_aggregation: Annotated[
        bool,
        typer.Option(
            "--require-secure-aggregation",
            help="Take part only in runs with secure aggregation, and send no weights in the clear.",
        ),
    ] = False,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Without TLS and without keys: for a trial on one machine.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of a client without a site's folder (--insecure).",
            show_default="from the shard",
        ),
    ] = None,
) -> None:
    """Run this site's node until Ctrl-C: it trains on the shard, which never leaves the machine."""
    from flames_cli.cli.consoles import results
    from flames_cli.fed.node import NodeSettings, read_profile
    from flames_cli.stages.deploy.node import find_site, join, settings_for

    found = find_site(site, superlink, shard[0].stem if insecure else None, name)
    typed = NodeSettings(
        tuple(shard),
        device=device,
        precision=precision,
        min_examples=min_examples,
        per_case=per_case,
        secure_only=require_secure_aggregation,
    )
    settings = settings_for(found, typed)
    console = results()
    _print_node(console, found, settings, read_profile(settings))
    if insecure:
        print_warning(INSECURE_NODE)
    join(found, settings, insecure, line_printer(console))


def _print_node(console: "Console", site: "Site", settings: "NodeSettings", profile: "Profile") -> None:
    from flames_cli.stages.deploy.plugins import describe_pins

    allowed = f"plug-in packages that a run may use: {describe_pins(site.plugins)}"
    plugins = [allowed] if site.plugins else []
    for line in (
        f"site {site.name}: {profile.modality}, {profile.organ}, {profile.n_train} training images"
        f" (takes part with {settings.min_examples} or more)",
        _sent(settings),
        *plugins,
        f"own model after the last round: {site.models / 'RUN'}",
        f"server {site.superlink}; Ctrl-C ends the node",
    ):
        console.print(line, soft_wrap=True)


def _sent(settings: "NodeSettings") -> str:
    scores = "every test case's score" if settings.per_case else "mean scores"
    if settings.secure_only:
        return (
            "sent to the server: counts, and masked weights, of which it learns sums; no image, mask or path"
        )
    return f"sent to the server: weights, counts and {scores}; no image, mask or path"
