"""`flames federate`: parse, call the stage, render."""

from pathlib import Path
from typing import Any

import click
import typer

from flames_cli.cli.options import build_config, typed_options
from flames_cli.errors import FlamesError
from flames_cli.stages.entrance import check_options


def federate(ctx: typer.Context) -> None:
    """Train the clients round by round and blend their models; the same command continues a stopped run."""
    from flames_cli.config import FederateConfig

    if ctx.params["quiet"] and ctx.params["verbose"]:
        raise FlamesError("got --quiet with --verbose, expected one of the two; leave one out")
    resumed, folds = ctx.params["resume"], None
    if resumed is None:
        options = build_config(ctx, FederateConfig)
    else:
        options, folds = resumed_config(ctx, resumed or None)
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import FederationView
    from flames_cli.cli.render import print_json
    from flames_cli.cli.render_federation import federation_json, print_family, print_federation, print_next
    from flames_cli.learn.devices import pick_device
    from flames_cli.stages.federate.members import federate_all

    on_cpu, made = pick_device(options.device).type == "cpu", []
    several = options.makes_family

    def watch(title: str) -> FederationView:
        return FederationView(watching(), title, on_cpu, verbose=ctx.params["verbose"])

    for result in federate_all(options, watch, folds):
        made.append(result)
        if not ctx.params["json_output"]:
            print_federation(results(), result, options.rounds, one_of_several=several)
    name = options.name
    if ctx.params["json_output"]:
        runs = [federation_json(result) for result in made]
        print_json({"name": name, "seeds": options.seeds, "runs": runs} if several else runs[0])
        return
    if several:
        print_family(results(), name, made)
    print_next(results(), name if several else made[0].run, options.workspace)


def resumed_config(ctx: click.Context, name: str | None) -> tuple[Any, dict[int, str] | None]:
    """Return the options and partitions of run `name`, as `continued_options`; raises as it does, or if an
    option cannot be with --resume."""
    from flames_cli.config import FederateConfig
    from flames_cli.stages.federate.continuing import continued_options

    typed = typed_options(ctx, FederateConfig)
    if ctx.params["config"] or typed.get("fresh"):
        unfit = "--config" if ctx.params["config"] else "--fresh"
        raise FlamesError(
            f"got {unfit} with --resume, which continues a run with its own options; leave one out"
        )
    options, folds = continued_options(Path(ctx.params["workspace"]), name, typed)
    check_options(options)
    return options, folds
