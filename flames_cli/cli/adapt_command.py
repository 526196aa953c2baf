"""`flames adapt`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import build_config


def adapt(ctx: typer.Context) -> None:
    """Adapt a trained model to the images of one hospital, without a federation."""
    from flames_cli.config import AdaptConfig

    options = build_config(ctx, AdaptConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_adapted import print_adapted
    from flames_cli.stages.adapt.stage import adapt as run_adapt

    with progress_bars(watching()) as progress:
        made = run_adapt(options, progress)
    if ctx.params["json_output"]:
        print_json(made.as_json())
    else:
        print_adapted(results(), made)
