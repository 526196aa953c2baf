"""`flames deploy check`: PASSED, or each problem with its fix."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flames_cli.cli.deploy.options import DEFAULT_DEPLOYMENT, AtServer, AtSite, choose_folder
from flames_cli.cli.options import Json
from flames_cli.cli.text import count
from flames_cli.errors import PROBLEMS, FlamesError

if TYPE_CHECKING:
    from rich.console import Console

    from flames_cli.stages.deploy.findings import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "red", "skipped": "dim"}


def check(
    deployment: AtServer = None,
    site: AtSite = None,
    shard: Annotated[
        list[Path] | None,
        typer.Option("--shard", help="Shard of the client, such as hospital-a.h5 (at a site); repeatable."),
    ] = None,
    superlink: Annotated[
        str | None,
        typer.Option(
            "--superlink",
            help="Address of the server: HOST:PORT (at a site).",
            show_default="from the folder",
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Check that a federation between machines can work: PASSED, or each problem with its fix."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.stages.deploy.findings import passed

    checked, findings = _check(deployment, site, shard or [], superlink)
    if json_output:
        found = [asdict(finding) for finding in findings]
        print_json({"checked": checked, "passed": passed(findings), "findings": found})
    else:
        _print_findings(results(), checked, findings)
    if not passed(findings):
        raise typer.Exit(PROBLEMS)


def _check(
    deployment: Path | None, site: Path | None, shards: list[Path], superlink: str | None
) -> "tuple[str, list[Finding]]":
    """Return the checked server or site, and the findings."""
    from flames_cli.stages.deploy.check import check_node, check_server
    from flames_cli.store.deployment.folders import read_deployment, read_site

    chosen = choose_folder(deployment, site)
    if chosen is not None:
        read = read_site(chosen)
        return f"site {read.name}", check_node(read, shards, superlink)
    if shards or superlink is not None:
        raise FlamesError("--shard and --superlink are for a site; pass its folder with --site")
    server = read_deployment(deployment or DEFAULT_DEPLOYMENT)
    return f"server {server.superlink}", check_server(server)


def _print_findings(console: "Console", checked: str, findings: "Sequence[Finding]") -> None:
    for finding in findings:
        console.print(f"{finding.state}: {finding.what}", style=STYLES[finding.state], soft_wrap=True)
        if finding.fix:
            console.print(f"  what to do: {finding.fix}", style="dim", soft_wrap=True)
    states = [finding.state for finding in findings]
    problems, warnings = states.count("problem"), states.count("warning")
    totals = [count(problems, "problem") if problems else "PASSED"]
    totals += [count(warnings, "warning")] if warnings else []
    totals += [f"{states.count('skipped')} not checked"] if "skipped" in states else []
    console.print(
        f"{checked}: {', '.join(totals)}", style=f"bold {'red' if problems else 'green'}", soft_wrap=True
    )
