"""`flames predict`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import build_config
from flames_cli.errors import PROBLEMS


def predict(ctx: typer.Context) -> None:
    """Predict the tumours in new images by trained models, in the geometry of the images."""
    from flames_cli.config import PredictConfig

    options = build_config(ctx, PredictConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_predictions import print_predictions
    from flames_cli.stages.predict.stage import predict as run_predict

    with progress_bars(watching()) as progress:
        made = run_predict(options, progress)
    if ctx.params["json_output"]:
        print_json(made.as_json())
    else:
        print_predictions(results(), made)
    if made.failed:
        raise typer.Exit(PROBLEMS)
