"""The commands: parse, call a stage, render.

Stages are imported inside, so that --help loads little; those that load torch, which takes seconds, after the
options are checked.
"""

import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from flames_cli import __version__
from flames_cli.cli.check_command import check
from flames_cli.cli.deploy.app import deploy
from flames_cli.cli.federate_command import federate, strategies_epilog
from flames_cli.cli.group import FlamesGroup
from flames_cli.cli.options import (
    DEFAULT_WORKSPACE,
    ConfigFile,
    DeviceName,
    Json,
    Overwrite,
    PrecisionName,
    Seed,
    Workspace,
    build_config,
    check_workspace,
    parse_lists,
    parse_number,
    parse_pairs,
)
from flames_cli.cli.preprocess_command import preprocess

app = typer.Typer(
    cls=FlamesGroup,
    name="flames",
    help="Federated, multi-modality tumour segmentation: one model per modality, whatever the organ.\n\n"
    "The stages, in order: check, preprocess, partition, federate, evaluate, tsne. "
    "New here? Run `flames demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flames {__version__}")
        raise typer.Exit


@app.callback()
def flames(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Set up what holds for every command."""
    # Flower asks this variable on import: nothing is sent from a hospital unless its owner says so.
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    # Torch's threads spin long while they wait, which starves a busy machine (docs/performance.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # Libraries warn of odd files by path; what matters of that is an error of ours, which names the file.
    warnings.filterwarnings("ignore", module=r"PIL|pydicom|nibabel")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a log without Unicode shows ? for ±, and the run goes on


app.command(rich_help_panel="Stages")(check)
app.command(rich_help_panel="Stages")(preprocess)


@app.command(rich_help_panel="Stages")
def partition(
    ctx: typer.Context,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", help="Data sets to take part.", show_default="all preprocessed"),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="DATASET=CLIENTS, divided by patient, or DATASET=site: a client a centre.",
            show_default="brats=3; polypgen, lits, lits-slices by site; others 1",
        ),
    ] = None,
    skew: Annotated[
        float | None,
        typer.Option(
            "--skew",
            help="Dirichlet concentration of the clients' shares; small is uneven, such as 0.5.",
            show_default="even shares",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold",
            help="K/N: fold K of an N-fold cross-validation is the clients' test set.",
            show_default="as preprocessed",
        ),
    ] = None,
    hold_out_site: Annotated[
        list[str] | None,
        typer.Option(
            "--hold-out-site",
            help="DATASET=SITE: no client sees it, the server tests on it; may be given several times.",
        ),
    ] = None,
    val_fraction: Annotated[
        float,
        typer.Option("--val-fraction", help="Of each client's training patients, held out to choose by."),
    ] = 0.1,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Divide the preprocessed data sets between clients; no patient in two sets."""
    from dataclasses import asdict

    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_json, print_partition
    from flames_cli.config import PartitionConfig
    from flames_cli.stages.partition.stage import partition as run_partition

    pairs = parse_pairs("--split", split)
    counts = {name: parse_number(value) for name, value in pairs.items()} if pairs else None
    sites = parse_lists("--hold-out-site", hold_out_site)
    options = build_config(
        ctx, PartitionConfig, dataset=None, datasets=dataset, split=counts, hold_out_site=sites
    )
    with progress_bars(watching()) as progress:
        made = run_partition(options, progress)
    if json_output:
        print_json(asdict(made))
    else:
        print_partition(results(), made, options.workspace)


app.command(rich_help_panel="Stages", epilog=strategies_epilog())(federate)


@app.command(rich_help_panel="Stages")
def evaluate(
    ctx: typer.Context,
    run: Annotated[
        str | None, typer.Option("--run", help="Run to evaluate.", show_default="the newest")
    ] = None,
    client_test: Annotated[
        bool, typer.Option("--client-test", help="Every client's own test set with its personalised model.")
    ] = False,
    server_test: Annotated[
        bool, typer.Option("--server-test", help="Each server model on the unseen patients of its modality.")
    ] = False,
    compare: Annotated[
        str | None, typer.Option("--compare", help="Another run, shown beside this one.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images a step.")] = 64,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Draw the pictures.")] = True,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Score a run on the test sets, client by client and for the server; both unless one is chosen."""
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_evaluation, print_json
    from flames_cli.config import EvaluateConfig

    options = build_config(ctx, EvaluateConfig)
    from flames_cli.stages.evaluate.files import summary_json
    from flames_cli.stages.evaluate.stage import evaluate as run_evaluate

    with progress_bars(watching()) as progress:
        result = run_evaluate(options, progress)
    if json_output:
        print_json(summary_json(result))
    else:
        print_evaluation(results(), result)


@app.command(rich_help_panel="Stages")
def tsne(
    ctx: typer.Context,
    features: Annotated[
        str, typer.Option("--features", help="pixels, or deep: the bottleneck of a run's model.")
    ] = "pixels",
    run: Annotated[
        str | None, typer.Option("--run", help="Run for deep features.", show_default="the newest")
    ] = None,
    max_images: Annotated[
        int, typer.Option("--max-images", help="Of a client at most, drawn by seed.")
    ] = 1000,
    perplexity: Annotated[float, typer.Option("--perplexity", help="Of t-SNE.")] = 30.0,
    device: DeviceName = "auto",
    seed: Seed = 0,
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Draw the clients' training images on a map, by modality and by client."""
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import map_json, print_json, print_map
    from flames_cli.config import TsneConfig

    options = build_config(ctx, TsneConfig)
    from flames_cli.stages.tsne.stage import tsne as run_tsne

    with progress_bars(watching()) as progress:
        made = run_tsne(options, progress)
    if json_output:
        print_json(map_json(made))
    else:
        print_map(results(), made)


app.add_typer(deploy, name="deploy", rich_help_panel="Between machines")


@app.command()
def demo(
    ctx: typer.Context,
    size: Annotated[int, typer.Option("--size", help="Side of the square images, in pixels.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of each run.")] = 12,
    device: DeviceName = "auto",
    seed: Seed = 0,
    workspace: Annotated[Path, typer.Option("--workspace", help="Folder of the demo's artifacts.")] = Path(
        "flames-demo"
    ),
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Run every stage on synthetic images: FLAMES beside the FedAvg baseline, in minutes."""
    from flames_cli.config import DemoConfig

    options = build_config(ctx, DemoConfig)
    from flames_cli.cli.demo import show_demo

    show_demo(options, json_output)


@app.command()
def info(workspace: Workspace = DEFAULT_WORKSPACE, json_output: Json = False) -> None:
    """Versions, devices, and what the workspace holds."""
    from flames_cli.cli.consoles import results
    from flames_cli.cli.render import print_info, print_json
    from flames_cli.stages.info.stage import info as gather_info

    check_workspace(workspace)
    found = gather_info(workspace)
    if json_output:
        print_json(found)
    else:
        print_info(results(), found)
