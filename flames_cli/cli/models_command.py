"""`flames models`: install, list, show and remove the models of a workspace."""

from pathlib import Path
from typing import Annotated, Any

import click
import typer

from flames_cli.cli.names import check_name
from flames_cli.cli.options import Json, PluginFiles, Workspace, parse_numbers
from flames_cli.cli.runs_command import is_terminal
from flames_cli.cli.section_command import complete
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_workspace
from flames_cli.store import DEFAULT_WORKSPACE

models = typer.Typer(
    help="Install, list, show or remove models: folders that `flames export` makes.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _of_weights(flag: str, help: str, **options: Any) -> Any:
    """Return an option of `models add` for a file of weights, in a panel of its own."""
    return typer.Option(flag, help=help, rich_help_panel="A file of weights of another program", **options)


@models.command("add")
def add(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Zip file or folder of a model; or a .pth, .pt or .safetensors file of another program, "
            "with --architecture, --modality and --size.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the model.", show_default="the model's own"),
    ] = None,
    architecture: Annotated[
        str | None, _of_weights("--architecture", "Model of the weights, such as densenet-unet.")
    ] = None,
    modality: Annotated[str | None, _of_weights("--modality", "Modality of the images, such as MRI.")] = None,
    size: Annotated[int | None, _of_weights("--size", "Side of the square images, in pixels.", min=2)] = None,
    channels: Annotated[int, _of_weights("--channels", "1 for grey, 3 for colour.", min=1, max=3)] = 1,
    norm: Annotated[
        str, _of_weights("--norm", "Normalisation layers.", metavar="[batch|group|frozen]")
    ] = "batch",
    model_options: Annotated[
        list[str] | None,
        _of_weights("--model-option", "Option of the model; may be repeated.", metavar="NAME=NUMBER"),
    ] = None,
    organs: Annotated[list[str] | None, _of_weights("--organ", "Organ; may be repeated.")] = None,
    window: Annotated[
        str | None,
        _of_weights(
            "--window", "Intensities of volumes that become 0 and 1, such as -160,240.", metavar="LOW,HIGH"
        ),
    ] = None,
    threshold: Annotated[
        float, _of_weights("--threshold", "Probability above which a pixel is tumour.")
    ] = 0.5,
    licence: Annotated[str, _of_weights("--licence", "Licence of the weights, such as cc-by-4.0.")] = "",
    workspace: Workspace = DEFAULT_WORKSPACE,
    plugin_files: PluginFiles = None,
    json_output: Json = False,
) -> None:
    """Install a model from a zip file, a folder or a file of weights; nothing in it is executed."""
    from flames_cli.plugins import use_files

    check_workspace(workspace)
    use_files(plugin_files or ())
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_added
    from flames_cli.stages.models.adding import add_model, add_weights

    if architecture is None:
        given = {"--modality": modality, "--size": size, "--model-option": model_options, "--window": window}
        if alone := [flag for flag, value in given.items() if value]:
            raise FlamesError(
                f"got {alone[0]} without an architecture, expected both for a file of weights; pass "
                "--architecture too, such as densenet-unet"
            )
        added = add_model(workspace, source, name)
    else:
        from flames_cli.stages.models.weights_files import make_facts

        check_name("models", architecture)
        facts = make_facts(
            architecture=architecture,
            modality=modality,
            size=size,
            channels=channels,
            norm=norm,
            options=parse_numbers("--model-option", model_options) or {},
            organs=tuple(organs or ()),
            window=window,
            threshold=threshold,
            licence=licence,
        )
        added = add_weights(workspace, source, facts, name)
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
