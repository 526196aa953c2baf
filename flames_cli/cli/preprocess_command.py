"""`flames preprocess`: parse, call the stage, render."""

import typer

from flames_cli.cli.names import check_datasets
from flames_cli.cli.options import build_config
from flames_cli.errors import FlamesError


def preprocess(ctx: typer.Context) -> None:
    """Convert raw images to one HDF5 file per data set: square, scaled, split by patient."""
    from flames_cli.config import PreprocessConfig

    options = build_config(ctx, PreprocessConfig)
    if not options.datasets:
        raise FlamesError("no data set was named; pass --dataset NAME (`flames info` lists them)")
    check_datasets(options.datasets)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json, print_preprocessed
    from flames_cli.readers import get_reader
    from flames_cli.stages.preprocess.stage import preprocess as run_preprocess

    reports = []
    for known in dict.fromkeys(get_reader(named).name for named in options.datasets):
        with progress_bars(watching()) as progress:
            made = run_preprocess(options, known, progress)
        reports += made
        if not ctx.params["json_output"]:
            for report in made:
                print_preprocessed(results(), report, options.workspace)
    if ctx.params["json_output"]:
        print_json(reports if len(reports) > 1 else reports[0])
