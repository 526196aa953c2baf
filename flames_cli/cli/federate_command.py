"""`flames federate`: parse, call the stage, render."""

from pathlib import Path
from typing import Any

import click
import typer

from flames_cli.cli.options import build_config, check_options, typed_options
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import ALGORITHMS
from flames_cli.learn.models import MODEL_SUMMARIES


def strategies_epilog() -> str:
    """Return a line for every strategy and every model, which follow the options in the help."""
    strategies = (f"{name}: {algorithm.summary}" for name, algorithm in ALGORITHMS.items())
    models = (f"{name}: {summary}" for name, summary in MODEL_SUMMARIES.items())
    return "\n\n".join(("Strategies:", *strategies, "Models:", *models))


def federate(ctx: typer.Context) -> None:
    """Train the clients round by round and blend their models; the same command continues a stopped run."""
    from flames_cli.config import FederateConfig

    resumed = ctx.params["resume"]
    options = build_config(ctx, FederateConfig) if resumed is None else resumed_config(ctx, resumed or None)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import FederationView
    from flames_cli.cli.render import federation_json, print_federation, print_json
    from flames_cli.learn.devices import pick_device
    from flames_cli.stages.federate.stage import federate as run_federate

    on_cpu = pick_device(options.device).type == "cpu"
    with FederationView(watching(), options.run_name, on_cpu) as view:
        result = run_federate(options, view)
    if ctx.params["json_output"]:
        print_json(federation_json(result))
    else:
        print_federation(results(), result, options.rounds)


def resumed_config(ctx: click.Context, name: str | None) -> Any:
    """Return the configuration of run `name` (None: the newest), with those typed options that may change.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: a typed option does not agree with the run's.
    """
    from flames_cli.config import FederateConfig, check_section, keys_with
    from flames_cli.store.runs import find_run, list_differences, read_config

    typed = typed_options(ctx, FederateConfig)
    if ctx.params["config"] or typed.get("fresh"):
        unfit = "--config" if ctx.params["config"] else "--fresh"
        raise FlamesError(
            f"got {unfit} with --resume, which continues a run with its own options; leave one out"
        )
    workspace = Path(ctx.params["workspace"])
    run = find_run(workspace, name)
    stored = {**read_config(run.config).get("federate", {}), "workspace": workspace}
    made = check_section(FederateConfig, stored, where=f"{run.config}: ").model_dump(mode="json")
    options = check_section(FederateConfig, {**stored, **typed})
    asked = options.model_dump(mode="json")
    free = keys_with(FederateConfig, "may_change", True) | keys_with(FederateConfig, "stored", False)
    if differing := list_differences(made, asked, (key for key in typed if key not in free)):
        raise FlamesError(
            f"run '{run.name}' was made with other options ({'; '.join(differing)}); leave them out to "
            "continue it, or start another run without --resume and with --run NAME"
        )
    check_options(options)
    return options
