"""`flames federate`: parse, call the stage, render."""

from pathlib import Path
from typing import Any

import click
import typer

from flames_cli.cli.options import build_config, check_options, typed_options
from flames_cli.errors import FlamesError


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
    """Return the configuration of run `name` (None: the newest), with those typed options that may change,
    and the partition of each fold.

    For a family of runs, or the newest run of one, it has all seeds and folds of the family.

    Raises:
        MissingArtifact: there is no such run, or no partition.
        FlamesError: a typed option does not agree with the run's.
    """
    from flames_cli.config import FederateConfig, check_section, keys_with
    from flames_cli.store.partitions import find_run_partition
    from flames_cli.store.runs import (
        PARTITION_SHA256,
        find_runs,
        list_differences,
        planned_seeds,
        read_config,
        read_member,
    )

    typed = typed_options(ctx, FederateConfig)
    if ctx.params["config"] or typed.get("fresh"):
        unfit = "--config" if ctx.params["config"] else "--fresh"
        raise FlamesError(
            f"got {unfit} with --resume, which continues a run with its own options; leave one out"
        )
    workspace = Path(ctx.params["workspace"])
    known, (run, *others) = find_runs(workspace, name)
    tables = read_config(run.config)
    stored = {**tables.get("federate", {}), "workspace": workspace, "run": known}
    folds = None
    if tables.get("run", {}).get(PARTITION_SHA256):
        stored["partition"] = find_run_partition(workspace, run)
    if known != run.name and read_member(run).planned_seeds:
        del stored["seed"]
        stored["seeds"] = planned_seeds([run, *others])
    if known != run.name and read_member(run).planned_folds:
        from flames_cli.stages.federate.members import find_member_partitions

        folds = find_member_partitions(workspace, [run, *others])
        del stored["partition"]
        stored["folds"] = ""
    made = check_section(FederateConfig, stored, where=f"{run.config}: ").model_dump(mode="json")
    options = check_section(FederateConfig, {**stored, **typed})
    asked = options.model_dump(mode="json")
    free = keys_with(FederateConfig, "may_change", True) | keys_with(FederateConfig, "stored", False)
    if differing := list_differences(made, asked, (key for key in typed if key not in free)):
        raise FlamesError(
            f"run '{known}' was made with other options ({'; '.join(differing)}); leave them out to "
            "continue it, or start another run without --resume and with --run NAME"
        )
    check_options(options)
    return options, folds
