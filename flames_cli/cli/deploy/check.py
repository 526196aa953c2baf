"""`flames deploy check`: PASSED, or each problem and what to do."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT
from flames_cli.cli.options import Json
from flames_cli.cli.text import count
from flames_cli.errors import FlamesError

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.stages.deploy.findings import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "red", "skipped": "dim"}


def check(
    deployment: Annotated[
        Path | None,
        typer.Option(
            "--deployment", help="At the server: the deployment's folder.", show_default="flames-deployment"
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            "--site", help="At a site: the folder from the server.", show_default="this, with a site.toml"
        ),
    ] = None,
    shard: Annotated[
        list[Path] | None,
        typer.Option("--shard", help="At a site: the client's data, such as hospital-a.h5; one or several."),
    ] = None,
    superlink: Annotated[
        str | None,
        typer.Option("--superlink", help="At a site: HOST:PORT.", show_default="as the folder says"),
    ] = None,
    json_output: Json = False,
) -> None:
    """Look for what would stop a federation between machines: PASSED, or each problem and what to do."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.findings import passed

    who, findings = _check(deployment, site, shard or [], superlink)
    if json_output:
        found = [asdict(finding) for finding in findings]
        print_json({"checked": who, "passed": passed(findings), "findings": found})
    else:
        _print_findings(results(), who, findings)
    if not passed(findings):
        raise typer.Exit(FlamesError.exit_code)


def _check(
    deployment: Path | None, site: Path | None, shards: list[Path], superlink: str | None
) -> "tuple[str, list[Finding]]":
    """Who was checked, and what was found."""
    from flames_cli.stages.deploy.check import check_node, check_server
    from flames_cli.store.deployment.folders import read_deployment, read_site

    here = Path()
    if site is None and deployment is None and (here / "site.toml").is_file():
        site = here
    if site is not None:
        if deployment is not None:
            raise FlamesError("--deployment is for the server and --site for a site; pass one of them")
        read = read_site(site)
        return f"site {read.name}", check_node(read, shards, superlink)
    if shards or superlink is not None:
        raise FlamesError("--shard and --superlink are for a site; pass its folder with --site")
    server = read_deployment(deployment or DEFAULT_DEPLOYMENT)
    return f"server {server.superlink}", check_server(server)


def _print_findings(console: "Console", who: str, findings: "Sequence[Finding]") -> None:
    for finding in findings:
        console.print(f"{finding.state}: {finding.what}", style=STYLES[finding.state], soft_wrap=True)
        if finding.fix:
            console.print(f"  what to do: {finding.fix}", style="dim", soft_wrap=True)
    states = [finding.state for finding in findings]
    problems, warnings = states.count("problem"), states.count("warning")
    said = [count(problems, "problem") if problems else "PASSED"]
    said += [count(warnings, "warning")] if warnings else []
    said += [f"{states.count('skipped')} not checked"] if "skipped" in states else []
    console.print(f"{who}: {', '.join(said)}", style=f"bold {'red' if problems else 'green'}", soft_wrap=True)
