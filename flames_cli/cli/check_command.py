"""`flames check`: parse, call the stage, render."""

import typer

from flames_cli.cli.options import (
    DEFAULT_WORKSPACE,
    Channels,
    CollectionName,
    ConfigFile,
    DatasetNames,
    Json,
    Percentile,
    Plane,
    RawFolder,
    Size,
    SliceHalfWidth,
    Slices,
    Windows,
    Workers,
    Workspace,
    build_config,
    parse_windows,
    raw_folders,
)
from flames_cli.errors import FlamesError


def check(
    ctx: typer.Context,
    dataset: DatasetNames = None,
    raw: RawFolder = None,
    name: CollectionName = None,
    size: Size = 240,
    channels: Channels = "grey",
    plane: Plane = "axial",
    slices: Slices = None,
    slice_half_width: SliceHalfWidth = 20,
    window: Windows = None,
    percentile: Percentile = 95.0,
    workers: Workers = 0,
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Look for what is wrong with raw data before any training: PASSED, or each problem and what to do."""
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_check import print_check
    from flames_cli.config import CheckConfig
    from flames_cli.stages.check.stage import check as run_check

    changed = {"datasets": dataset, "raw": raw_folders(dataset, raw), "window": parse_windows(window)}
    options = build_config(ctx, CheckConfig, dataset=None, **changed)
    if not options.datasets:
        raise FlamesError("no data set was named; pass --dataset NAME (`flames info` lists them)")
    with progress_bars(watching()) as progress:
        reports = run_check(options, progress)
    if json_output:
        print_json(reports if len(reports) > 1 else reports[0])
    else:
        for report in reports:
            print_check(results(), report, options.workspace)
    if not all(report["passed"] for report in reports):
        raise typer.Exit(FlamesError.exit_code)
