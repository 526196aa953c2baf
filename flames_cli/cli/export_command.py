"""`flames export`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import build_config


def export(ctx: typer.Context) -> None:
    """Write a model of a run as a folder, which `flames predict` uses and which can be given to others."""
    from flames_cli.config import ExportConfig

    options = build_config(ctx, ExportConfig)
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_models import print_exported
    from flames_cli.stages.export.stage import export as run_export

    made = run_export(options)
    if ctx.params["json_output"]:
        print_json(made.as_json())
    else:
        print_exported(results(), made)
