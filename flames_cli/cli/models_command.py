"""`flames models`: install, list, show and remove the models of a workspace."""

from pathlib import Path
from typing import Annotated

import click
import typer

from flames_cli.cli.options import Json, Workspace, check_workspace
from flames_cli.cli.runs_command import is_terminal
from flames_cli.cli.section_command import complete
from flames_cli.errors import FlamesError
from flames_cli.store import DEFAULT_WORKSPACE

models = typer.Typer(
    help="Install, list, show or remove models: folders that `flames export` makes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@models.command("add")
def add(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file or folder of a model.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the model.", show_default="the model's own"),
    ] = None,
    workspace: Workspace = DEFAULT_WORKSPACE,
    json_output: Json = False,
) -> None:
    """Install a model from a zip file or a folder, after it was checked; nothing in it is executed."""
    check_workspace(workspace)
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_added
    from flames_cli.stages.models.adding import add_model

    added = add_model(workspace, source, name)
    if json_output:
        found = {"model": added.info.name, "folder": str(added.folder), "new": added.is_new}
        print_json({**found, "sha256": added.info.sha256})
    else:
        print_added(results(), added)


@models.command("list")
def list_models(workspace: Workspace = DEFAULT_WORKSPACE, json_output: Json = False) -> None:
    """List the models of the workspace."""
    check_workspace(workspace)
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_models
    from flames_cli.stages.models.listing import list_entries

    entries = list_entries(workspace)
    if json_output:
        print_json({"workspace": str(workspace), "models": [entry.as_json() for entry in entries]})
    else:
        print_models(results(), entries, workspace)


@models.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Model, or its folder.", autocompletion=complete("model folders")
        ),
    ],
    workspace: Workspace = DEFAULT_WORKSPACE,
    json_output: Json = False,
) -> None:
    """Show what a model is: its images, its training data, its validation."""
    check_workspace(workspace)
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_model
    from flames_cli.stages.models.listing import find_entry

    entry = find_entry(workspace, name)
    if json_output:
        print_json(entry.as_json())
    else:
        print_model(results(), entry)


@models.command("rm")
def remove(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME…", help="Models.", autocompletion=complete("model folders")),
    ],
    workspace: Workspace = DEFAULT_WORKSPACE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without a question.")] = False,
    json_output: Json = False,
) -> None:
    """Remove models with all their files, after a question; runs and zip files stay."""
    check_workspace(workspace)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_models_removed, print_models_to_remove
    from flames_cli.stages.models.removal import plan_removal, remove_models

    found = plan_removal(workspace, names)
    if not yes:
        if not is_terminal():
            raise FlamesError(
                f"got models to remove ({', '.join(model.name for model in found)}) and no terminal to ask "
                "at; pass --yes to remove without a question"
            )
        print_models_to_remove(watching(), found)
        if not click.confirm("Remove?", default=False, err=True):
            watching().print("nothing was removed")
            raise typer.Exit(1)
    remove_models(found)
    if json_output:
        print_json({"removed": [one.name for one in found], "bytes": sum(one.size_bytes for one in found)})
    else:
        print_models_removed(results(), found)
