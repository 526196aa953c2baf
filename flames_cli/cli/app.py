"""The commands: parse, call a stage, render.

Stages are imported inside, so that --help loads little; those that load torch, which takes seconds, after the
options are checked.
"""

import io
import logging
import sys
from typing import Annotated

import typer

from flames_cli import __version__
from flames_cli.cli.adapt_command import adapt
from flames_cli.cli.check_command import check
from flames_cli.cli.compare_command import compare
from flames_cli.cli.deploy.app import deploy
from flames_cli.cli.export_command import export
from flames_cli.cli.federate_command import federate
from flames_cli.cli.group import FlamesGroup
from flames_cli.cli.info_command import info
from flames_cli.cli.lost_terminal import outlive_terminal
from flames_cli.cli.models_command import models
from flames_cli.cli.options import build_config
from flames_cli.cli.predict_command import predict
from flames_cli.cli.preprocess_command import preprocess
from flames_cli.cli.report_command import report
from flames_cli.cli.runs_command import runs
from flames_cli.cli.section_command import FederateCommand, SectionCommand
from flames_cli.stages.entrance import set_up_process

app = typer.Typer(
    cls=FlamesGroup,
    name="flames",
    help="Federated, multi-modality tumour segmentation: one model per modality, whatever the organ.\n\n"
    "The stages, in order: check, preprocess, partition, federate, evaluate, compare, tsne, report. "
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
    """Set up the environment of every command."""
    set_up_process()
    # Where its folder cannot be written, it says so at every start, and works.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    outlive_terminal()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a log without Unicode shows ? for ±, and the run continues


app.command(rich_help_panel="Stages", cls=SectionCommand)(check)
app.command(rich_help_panel="Stages", cls=SectionCommand)(preprocess)


@app.command(rich_help_panel="Stages", cls=SectionCommand)
def partition(ctx: typer.Context) -> None:
    """Divide the preprocessed data sets between clients; no named patient is in two sets."""
    from flames_cli.config import PartitionConfig

    options = build_config(ctx, PartitionConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import partition_json, print_folds, print_json, print_partition
    from flames_cli.stages.partition.stage import make_partitions

    with progress_bars(watching()) as progress:
        made = make_partitions(options, progress)
    if ctx.params["json_output"]:
        parts = [partition_json(one) for one in made]
        print_json({"name": options.name, "folds": parts} if options.folds else parts[0])
    elif options.folds:
        print_folds(results(), made)
    else:
        print_partition(results(), made[0])


app.command(rich_help_panel="Stages", cls=FederateCommand)(federate)


@app.command(rich_help_panel="Stages", cls=SectionCommand)
def evaluate(ctx: typer.Context) -> None:
    """Evaluate a run on the test sets of the clients and of the server; both unless one is chosen."""
    from flames_cli.config import EvaluateConfig

    options = build_config(ctx, EvaluateConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import print_evaluation, print_json
    from flames_cli.stages.evaluate.stage import evaluate as run_evaluate
    from flames_cli.store.evaluations import evaluation_json

    with progress_bars(watching()) as progress:
        result = run_evaluate(options, progress)
    if ctx.params["json_output"]:
        print_json(evaluation_json(result.content))
    else:
        print_evaluation(results(), result, options.detail)


app.command(rich_help_panel="Stages", cls=SectionCommand)(compare)


@app.command(rich_help_panel="Stages", cls=SectionCommand)
def tsne(ctx: typer.Context) -> None:
    """Draw a map of the clients' training images, by modality and by client."""
    from flames_cli.config import TsneConfig

    options = build_config(ctx, TsneConfig)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import progress_bars
    from flames_cli.cli.render import map_json, print_json, print_map
    from flames_cli.stages.tsne.stage import tsne as run_tsne

    with progress_bars(watching()) as progress:
        made = run_tsne(options, progress)
    if ctx.params["json_output"]:
        print_json(map_json(made))
    else:
        print_map(results(), made)


app.command(rich_help_panel="Models", cls=SectionCommand)(export)
app.command(rich_help_panel="Models", cls=SectionCommand)(adapt)
app.command(rich_help_panel="Models", cls=SectionCommand)(predict)
app.add_typer(models, name="models", rich_help_panel="Models")
app.command(rich_help_panel="Stages", cls=SectionCommand)(report)
app.add_typer(runs, name="runs")
app.add_typer(deploy, name="deploy", rich_help_panel="Between machines")


@app.command(cls=SectionCommand)
def demo(ctx: typer.Context) -> None:
    """Run every stage on synthetic images, FLAMES next to the FedAvg baseline, in minutes."""
    from flames_cli.config import DemoConfig

    options = build_config(ctx, DemoConfig)
    from flames_cli.cli.demo import show_demo

    show_demo(options, ctx.params["json_output"])


app.command()(info)
