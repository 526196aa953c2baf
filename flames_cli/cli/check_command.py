"""`flames check`: parse, call the stage, render."""

import typer

from flames_cli.cli.names import check_datasets
from flames_cli.cli.options import build_config
from flames_cli.errors import PROBLEMS, FlamesError


def check(ctx: typer.Context) -> None:
    """Check raw data before any training: PASSED, or each problem with its fix."""
    from flames_cli.config import CheckConfig

    options = build_config(ctx, CheckConfig)
    if not options.datasets:
        raise FlamesError("no data set was named; pass --dataset NAME (`flames info` lists them)")
    check_datasets(options.datasets)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_check import print_check
    from flames_cli.stages.check.stage import check as run_check

    with progress_bars(watching()) as progress:
        reports = run_check(options, progress)
    if ctx.params["json_output"]:
        print_json(reports if len(reports) > 1 else reports[0])
    else:
        for report in reports:
            print_check(results(), report, options.workspace)
    if not all(report["passed"] for report in reports):
        raise typer.Exit(PROBLEMS)
