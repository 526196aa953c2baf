"""`flames preprocess`: parse, call the stage, render."""

from pathlib import Path
from typing import Annotated

import typer

from flames_cli.cli.options import (
    DEFAULT_WORKSPACE,
    Channels,
    CollectionName,
    ConfigFile,
    DatasetNames,
    Json,
    Overwrite,
    Percentile,
    Plane,
    RawFolder,
    Seed,
    Size,
    SliceHalfWidth,
    Slices,
    SmallRules,
    Windows,
    Workers,
    Workspace,
    build_config,
    parse_pairs,
    parse_windows,
    raw_folders,
)
from flames_cli.errors import FlamesError


def preprocess(
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
    seed: Seed = 0,
    server_test: Annotated[
        float | None,
        typer.Option(
            "--server-test",
            help="Images (1 or more) or fraction of patients (below 1) for the server's test set.",
            show_default="the paper's number, at most a quarter of the patients; without a paper a tenth",
        ),
    ] = None,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Of the other patients, for the clients' test sets.")
    ] = 0.2,
    small: SmallRules = None,
    duplicate_list: Annotated[
        Path | None,
        typer.Option("--duplicate-list", help="CSV of known copies, column Filename: {a.png&b.png}."),
    ] = None,
    salt_file: Annotated[
        Path | None,
        typer.Option(
            "--salt-file",
            help="The site's salt, by which patients get their pseudonyms: 64 or more hex digits.",
            show_default="WORKSPACE/private/salt, drawn when it is first needed",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad cases out instead of stopping.")
    ] = False,
    workers: Workers = 0,
    overwrite: Overwrite = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Raw images to one HDF5 file a data set: square, scaled, split by patient."""
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json, print_preprocessed
    from flames_cli.config import PreprocessConfig
    from flames_cli.readers import get_reader
    from flames_cli.stages.preprocess.stage import preprocess as run_preprocess

    changed = {
        "datasets": dataset,
        "raw": raw_folders(dataset, raw),
        "window": parse_windows(window),
        "small": parse_pairs("--small", small),
    }
    options = build_config(ctx, PreprocessConfig, dataset=None, **changed)
    if not options.datasets:
        raise FlamesError("no data set was named; pass --dataset NAME (`flames info` lists them)")
    reports = []
    for known in dict.fromkeys(get_reader(named).name for named in options.datasets):
        with progress_bars(watching()) as progress:
            made = run_preprocess(options, known, progress)
        reports += made
        if not json_output:
            for report in made:
                print_preprocessed(results(), report, options.workspace)
    if json_output:
        print_json(reports if len(reports) > 1 else reports[0])
