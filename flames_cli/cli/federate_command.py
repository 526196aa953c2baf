"""`flames federate`: parse, call the stage, render."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from flames_cli.cli.options import (
    DEFAULT_WORKSPACE,
    ConfigFile,
    DeviceName,
    Json,
    PrecisionName,
    Seed,
    Workspace,
    build_config,
    parse_by_modality,
    parse_number,
    parse_pairs,
)
from flames_cli.fed.algorithms import ALGORITHMS

FEDERATION, TRUST, TRAINING, MODEL, ENGINE = "Federation", "Trust", "Training", "Model", "Engine"
"""Panels of the command's help; what other commands have as well stands in the first one."""


def _one_of(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


def strategies_epilog() -> str:
    """What every strategy is, a line each, below the command's help."""
    lines = (f"{name}: {algorithm.summary}" for name, algorithm in ALGORITHMS.items())
    return "\n\n".join(("Strategies:", *lines))


def federate(
    ctx: typer.Context,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            rich_help_panel=FEDERATION,
            help=f"{_one_of(ALGORITHMS)}; what each is stands below.",
        ),
    ] = "flames",
    rounds: Annotated[int, typer.Option("--rounds", rich_help_panel=FEDERATION, help="Rounds in all.")] = 50,
    share: Annotated[
        str,
        typer.Option(
            "--share",
            rich_help_panel=FEDERATION,
            help="all, or content: the style of sd-utnet or sdnet stays at the client.",
        ),
    ] = "all",
    style_from: Annotated[
        int | None,
        typer.Option(
            "--style-from",
            rich_help_panel=FEDERATION,
            help="First round, 2 or later, in which clients also train on images redrawn in others' styles.",
            show_default="never",
        ),
    ] = None,
    proximal_mu: Annotated[
        float, typer.Option("--proximal-mu", rich_help_panel=FEDERATION, help="Of fedprox.")
    ] = 0.01,
    precise_norm: Annotated[
        bool,
        typer.Option(
            "--precise-norm/--no-precise-norm",
            rich_help_panel=FEDERATION,
            help="Of fedgs: estimate BatchNorm's statistics for the weights that are reported.",
        ),
    ] = True,
    server_lr: Annotated[
        float, typer.Option("--server-lr", rich_help_panel=FEDERATION, help="Of fedadam's server.")
    ] = 0.01,
    server_momentum: Annotated[
        float,
        typer.Option(
            "--server-momentum", rich_help_panel=FEDERATION, help="Of strategies that average, below 1."
        ),
    ] = 0.0,
    aggregation: Annotated[
        str,
        typer.Option(
            "--aggregation",
            rich_help_panel=TRUST,
            help="Of strategies that average: mean, or median, trimmed-mean or krum, which bear bad reports.",
        ),
    ] = "mean",
    bad_clients: Annotated[
        int | None,
        typer.Option(
            "--bad-clients",
            rich_help_panel=TRUST,
            help="Bad reports a model that trimmed-mean or krum is to bear.",
            show_default="as many as it can",
        ),
    ] = None,
    max_update_norm: Annotated[
        float | None,
        typer.Option(
            "--max-update-norm",
            rich_help_panel=TRUST,
            help="Refuse a report that moved its model more than so many times as far as the median "
            "client's; 0: never.",
            show_default="10 with superlink, else 0",
        ),
    ] = None,
    wire_dtype: Annotated[
        str,
        typer.Option(
            "--wire-dtype",
            rich_help_panel=FEDERATION,
            help="Numbers of the weights that travel: fp32, or in half the bytes fp16 or bf16.",
        ),
    ] = "fp32",
    dp_noise: Annotated[
        float | None,
        typer.Option(
            "--dp-noise",
            rich_help_panel=TRUST,
            help="Noise on what leaves the server: standard deviation, in clips, on the sum of a round's "
            "updates. Every client then counts the same.",
            show_default="no privacy",
        ),
    ] = None,
    dp_clip: Annotated[
        float | None,
        typer.Option(
            "--dp-clip",
            rich_help_panel=TRUST,
            help="Largest L2 norm of a client's update in a round; goes with --dp-noise.",
            show_default="none",
        ),
    ] = None,
    dp_delta: Annotated[
        float | None,
        typer.Option(
            "--dp-delta",
            rich_help_panel=TRUST,
            help="At which epsilon is told: far below 1 / number of clients.",
            show_default="1e-5",
        ),
    ] = None,
    local_epochs: Annotated[
        int,
        typer.Option("--local-epochs", rich_help_panel=TRAINING, help="Epochs a client trains in a round."),
    ] = 1,
    batch_size: Annotated[
        int, typer.Option("--batch-size", rich_help_panel=TRAINING, help="Images a step.")
    ] = 64,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            "--lr", rich_help_panel=TRAINING, help="Learning rate, or MODALITY=RATE.", show_default="1e-4"
        ),
    ] = None,
    optimiser: Annotated[
        str, typer.Option("--optimiser", rich_help_panel=TRAINING, help="adam, adamw or sgd.")
    ] = "adam",
    weight_decay: Annotated[
        float | None,
        typer.Option(
            "--weight-decay",
            rich_help_panel=TRAINING,
            help="Of the optimiser.",
            show_default="0.01 for adamw, else 0",
        ),
    ] = None,
    keep_epoch: Annotated[
        str,
        typer.Option(
            "--keep-epoch",
            rich_help_panel=TRAINING,
            help="Local epoch to report: best, by the validation patients, or last.",
        ),
    ] = "best",
    dice_weight: Annotated[
        float,
        typer.Option(
            "--dice-weight", rich_help_panel=TRAINING, help="Of Dice in the loss; the rest is Focal."
        ),
    ] = 0.3,
    per_pixel_focal: Annotated[
        bool,
        typer.Option(
            "--per-pixel-focal", rich_help_panel=TRAINING, help="Focal loss a pixel, not on the batch's mean."
        ),
    ] = False,
    augment: Annotated[
        bool,
        typer.Option("--augment/--no-augment", rich_help_panel=TRAINING, help="Warp the training images."),
    ] = True,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            rich_help_panel=MODEL,
            help="densenet-unet (FLAMES), unet (small), utnet, or with a style of their own sdnet, sd-utnet.",
        ),
    ] = "densenet-unet",
    model_option: Annotated[
        list[str] | None,
        typer.Option("--model-option", rich_help_panel=MODEL, help="NAME=NUMBER, such as base_channels=8."),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            "--encoder-weights",
            rich_help_panel=MODEL,
            help="imagenet, none or a weights FILE.",
            show_default="imagenet for densenet-unet, else none",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            rich_help_panel=ENGINE,
            help="inline: in this process; ray: simulated nodes on this machine, many at once (needs "
            "flames-cli[ray]); superlink: real nodes, which `flames deploy` sets up.",
        ),
    ] = "inline",
    cpus_per_client: Annotated[
        int, typer.Option("--cpus-per-client", rich_help_panel=ENGINE, help="Of ray.")
    ] = 1,
    clients_per_gpu: Annotated[
        int,
        typer.Option("--clients-per-gpu", rich_help_panel=ENGINE, help="Of ray: clients that share a GPU."),
    ] = 1,
    deployment: Annotated[
        Path,
        typer.Option(
            "--deployment", rich_help_panel=ENGINE, help="Of superlink: `flames deploy init`'s folder."
        ),
    ] = Path("flames-deployment"),
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            rich_help_panel=ENGINE,
            help="Of superlink: side of the nodes' images.",
            show_default="as this machine's partition, else 240",
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            "--channels",
            rich_help_panel=ENGINE,
            help="Of superlink: grey or rgb, as the nodes' images.",
            show_default="as this machine's partition, else grey",
        ),
    ] = None,
    min_clients: Annotated[
        list[str] | None,
        typer.Option(
            "--min-clients",
            rich_help_panel=ENGINE,
            help="Clients of every modality, or MODALITY=NUMBER, that a round needs to start.",
            show_default="1",
        ),
    ] = None,
    wait_for_clients: Annotated[
        float | None,
        typer.Option(
            "--wait-for-clients",
            rich_help_panel=ENGINE,
            help="Of superlink: seconds that a round waits for them; the first one waits for every site.",
            show_default="300",
        ),
    ] = None,
    round_timeout: Annotated[
        float | None,
        typer.Option(
            "--round-timeout",
            rich_help_panel=ENGINE,
            help="Seconds after which a round goes on without the late, who come back in a later one.",
            show_default="none",
        ),
    ] = None,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run.", show_default="the strategy's")
    ] = None,
    keep_rounds: Annotated[int, typer.Option("--keep-rounds", help="Checkpoints kept, the newest.")] = 2,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start the run anew instead of going on with it.")
    ] = False,
    workspace: Workspace = DEFAULT_WORKSPACE,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Train the clients round by round and blend their models; run again to go on."""
    from flames_cli.cli.consoles import results, watching
    from flames_cli.cli.live import FederationView
    from flames_cli.cli.render import federation_json, print_federation, print_json
    from flames_cli.config import FederateConfig

    pairs = parse_pairs("--model-option", model_option)
    model_options = {name: parse_number(value) for name, value in pairs.items()} if pairs else None
    changed = {
        "model_option": None,
        "model_options": model_options,
        **parse_by_modality("--lr", "lr", lr),
        **parse_by_modality("--min-clients", "min_clients", min_clients),
    }
    options = build_config(ctx, FederateConfig, **changed)
    from flames_cli.learn.devices import pick_device
    from flames_cli.stages.federate.stage import federate as run_federate

    on_cpu = pick_device(options.device).type == "cpu"
    with FederationView(watching(), options.run_name, on_cpu) as view:
        result = run_federate(options, view)
    if json_output:
        print_json(federation_json(result))
    else:
        print_federation(results(), result, options.rounds)
