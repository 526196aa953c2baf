"""`flames report`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import build_config


def report(ctx: typer.Context) -> None:
    """Write one page about a run: its data, rounds, results, cost, and how to repeat it."""
    from flames_cli.config import ReportConfig

    options = build_config(ctx, ReportConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_report import print_report
    from flames_cli.stages.report.stage import report as write_report

    with progress_bars(watching()) as progress:
        made = write_report(options, progress)
    if ctx.params["json_output"]:
        print_json(made.as_json())
    else:
        print_report(results(), made)
