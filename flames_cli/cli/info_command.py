"""`flames info`: parse, call the stage, render."""

from typing import Annotated

import typer

from flames_cli.cli.names import check_name
from flames_cli.cli.options import Json, PluginFiles, Workspace, parse_numbers
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_workspace
from flames_cli.store import DEFAULT_WORKSPACE

SIZE = 240
"""Side of the images without --size: that of the paper, and the default of `flames preprocess`."""


def info(
    workspace: Workspace = DEFAULT_WORKSPACE,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="Segmentation model whose architecture is shown, as a table."
        ),
    ] = None,
    model_options: Annotated[
        list[str] | None,
        typer.Option(
            "--model-option",
            metavar="NAME=NUMBER",
            help="Option of the model; may be repeated.",
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option("--norm", metavar="[batch|group|frozen]", help="Normalisation layers of the model."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=2, max=4096, help="Side of the model's images, in pixels.")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", min=1, max=3, help="Channels of the model's images: 1 grey, 3 colour."),
    ] = None,
    list_plugins: Annotated[
        bool, typer.Option("--plugins", help="List the plug-ins, and import each one to find its faults.")
    ] = False,
    plugin_files: PluginFiles = None,
    json_output: Json = False,
) -> None:
    """Show versions, devices and the contents of the workspace; with --model, the stages of a model."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_info, print_json
    from flames_cli.plugins import use_files

    check_workspace(workspace)
    use_files(plugin_files or ())
    if list_plugins:
        if model is not None:
            raise FlamesError(f"got --plugins with --model {model}, expected one of the two; leave one out")
        from flames_cli.cli.render_info import print_plugins
        from flames_cli.stages.info.plugins import survey_plugins

        survey = survey_plugins()
        print_json(survey.as_json()) if json_output else print_plugins(results(), survey)
        return
    if model is None:
        given = {"--model-option": model_options, "--norm": norm, "--size": size, "--channels": channels}
        if alone := [flag for flag, value in given.items() if value]:
            raise FlamesError(
                f"got {alone[0]} without a model, expected both; pass --model, such as densenet-unet"
            )
        from flames_cli.stages.info.stage import info as gather_info

        found = gather_info(workspace)
        print_json(found) if json_output else print_info(results(), found)
        return
    check_name("models", model)
    options = parse_numbers("--model-option", model_options) or {}
    from flames_cli.cli.render_info import print_architecture
    from flames_cli.stages.info.architecture import describe_model

    table = describe_model(model, size or SIZE, channels or 1, norm or "batch", options)
    print_json(table.as_json()) if json_output else print_architecture(results(), table)
