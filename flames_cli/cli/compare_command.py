"""`flames compare`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import build_config


def compare(ctx: typer.Context) -> None:
    """Put runs side by side on the same test cases, with paired differences to the first one."""
    from flames_cli.config import CompareConfig

    options = build_config(ctx, CompareConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_comparison import print_comparison
    from flames_cli.stages.compare.files import comparison_json
    from flames_cli.stages.compare.stage import compare as run_compare

    with progress_bars(watching()) as progress:
        result = run_compare(options, progress)
    if ctx.params["json_output"]:
        print_json(comparison_json(result))
    else:
        print_comparison(results(), result, options.detail)
