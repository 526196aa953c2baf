"""`flames runs`: list the runs of a workspace, or remove some."""

import sys
from pathlib import Path
from typing import Annotated

import click
import typer
from click.core import ParameterSource

from flames_cli.cli.options import Json, Workspace
from flames_cli.cli.section_command import complete
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_workspace
from flames_cli.store import DEFAULT_WORKSPACE

runs = typer.Typer(
    help="List every run of the workspace, the newest first; `flames runs rm NAME` removes runs.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@runs.callback()
def list_runs(
    ctx: typer.Context,
    workspace: Workspace = DEFAULT_WORKSPACE,
    every: Annotated[
        bool, typer.Option("--all", help="Show each run of a family, not all its seeds and folds together.")
    ] = False,
    json_output: Json = False,
) -> None:
    """List every run of the workspace, the newest first; `flames runs rm NAME` removes runs."""
    if ctx.invoked_subcommand:
        return
    check_workspace(workspace)
    from dataclasses import asdict

    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_runs import print_runs
    from flames_cli.stages.runs.listing import RunGroup, group_entries, list_entries

    entries = list_entries(workspace)
    if json_output:
        print_json({"workspace": str(workspace), "runs": [asdict(entry) for entry in entries]})
    else:
        groups = [RunGroup(one.name, (one,)) for one in entries] if every else group_entries(entries)
        print_runs(results(), groups, workspace)


@runs.command("rm")
def remove(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME…", help="Runs, or families of runs.", autocompletion=complete("runs and families")
        ),
    ],
    workspace: Workspace = DEFAULT_WORKSPACE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    json_output: Json = False,
) -> None:
    """Remove runs or families of runs with their checkpoints, after a question; evaluations, comparisons
    and reports stay."""
    workspace = _workspace_of(ctx, workspace)
    check_workspace(workspace)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_runs import print_removal, print_removed
    from flames_cli.stages.runs.removal import plan_removal, remove_runs, require_idle

    removal = plan_removal(workspace, names)
    require_idle(removal)
    if not yes:
        if not is_terminal():
            raise FlamesError(
                f"got runs to remove ({', '.join(run.name for run in removal.runs)}) and no "
                "terminal to ask at; pass --yes to remove without a question"
            )
        print_removal(watching(), removal)
        if not click.confirm("Remove?", default=False, err=True):
            watching().print("nothing was removed")
            raise typer.Exit(1)
    remove_runs(workspace, removal)
    if json_output:
        found = {"removed": [run.name for run in removal.runs], "bytes": removal.size_bytes}
        print_json({**found, "kept": [str(path) for path in removal.results]})
    else:
        print_removed(results(), removal)


def _workspace_of(ctx: click.Context, own: Path) -> Path:
    """Return the workspace, which may also be typed before `rm`."""
    if ctx.get_parameter_source("workspace") is not ParameterSource.COMMANDLINE and ctx.parent:
        return Path(ctx.parent.params["workspace"])
    return own


def is_terminal() -> bool:
    """Return whether a question can be answered."""
    return sys.stdin.isatty()
