"""Shards → a run: rounds of local training and blending, a checkpoint and a line after each."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import FederateConfig
from flames_cli.core.algorithm import Algorithm
from flames_cli.core.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.client import make_client_app
from flames_cli.fed.engines.inline import Memories, NodeConfig, make_contexts, run_inline
from flames_cli.fed.events import OnEvent, ignore
from flames_cli.fed.node import SHARD_SEPARATOR
from flames_cli.fed.plan import Plan, initial_seed
from flames_cli.fed.server import make_server_app
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.learn.models import build_model, options_for
from flames_cli.learn.models.arrays import to_weights
from flames_cli.learn.models.base import SegmentationModel
from flames_cli.learn.models.entries import describe_entries
from flames_cli.learn.optimisers import WEIGHT_DECAY
from flames_cli.stages.estimate import Estimator
from flames_cli.store.checkpoint import list_rounds, load_memories, load_state, save_state
from flames_cli.store.h5 import hash_file
from flames_cli.store.manifest import ClientEntry, Partition, checked_shard, read_partition
from flames_cli.store.runs import (
    RunFolder,
    append_round,
    keep_rounds_until,
    read_config,
    read_rounds,
    run_folder,
    write_config,
)

FIRST_NODE = 2
"""Node 1 is Flower's number for the server."""

FREE_TO_CHANGE = {"workspace", "rounds", "keep_rounds", "fresh", "device", "precision"}
"""Options that a resumed run may have otherwise: they do not change what was computed so far."""


@dataclass(frozen=True, slots=True)
class FederationResult:
    """A finished run."""

    run: str
    folder: Path
    resumed_from: int
    """The round after which this call took over; 0 for a new run."""
    records: list[dict[str, Any]]
    """The lines of rounds.jsonl."""


def federate(config: FederateConfig, on_event: OnEvent = ignore) -> FederationResult:
    """Run a federation inline, or go on with it after its last whole round.

    Raises:
        MissingArtifact: there is no partition, or a shard of it is gone.
        FlamesError: unknown strategy, model or option; no encoder weights; a run of that name with other
            options; no good report in a round.
    """
    algorithm = _choose_algorithm(config)
    device = pick_device(config.device)
    partition_file = config.workspace / "partition.json"
    partition = read_partition(partition_file)
    nodes = _node_configs(config, algorithm, partition)
    run = run_folder(config.workspace, config.run_name)
    options = _options_as_run(config)
    facts = {
        "flames": __version__,
        "partition_sha256": hash_file(partition_file),
        "size": partition.size,
        "channels": partition.channels,
        "device": device.type,
        "precision": pick_precision(config.precision, device, config.model),
    }
    resumed = _resume(run, options, facts, config)
    if resumed is None or resumed.round < config.rounds:
        plan = _plan(config, algorithm, partition, resumed)
        if resumed is None:
            # Here, not earlier: a wrong option must not cost the run that --fresh replaces.
            run.remove()
        write_config(run.config, {"federate": options, "run": facts})
        watch = Estimator(on_event, config.batch_size, config.local_epochs)
        contexts = make_contexts(nodes, load_memories(run.checkpoints) if resumed else {})

        def save(state: State, record: dict[str, Any]) -> None:
            # In this order: a line without its checkpoint is dropped and done again, the reverse is not.
            append_round(run.rounds, record)
            save_state(run.checkpoints, state, config.keep_rounds, Memories(contexts))

        run_inline(make_server_app(plan, save, resumed, watch), make_client_app(watch), contexts)
    return FederationResult(run.name, run.path, resumed.round if resumed else 0, read_rounds(run.rounds))


def _choose_algorithm(config: FederateConfig) -> Algorithm:
    """The strategy with its server's options.

    Raises:
        FlamesError: no such strategy, or an option that it cannot have.
    """
    algorithm = get_algorithm(config.strategy)
    if algorithm.local == "scaffold" and config.optimiser != "sgd":
        raise FlamesError(
            f"strategy {config.strategy} is defined for plain SGD, got optimiser {config.optimiser}; "
            "pass --optimiser sgd, with a larger --lr such as 0.1"
        )
    alone = algorithm.groups == "none" or algorithm.pooled
    if config.style_from is not None and alone:
        raise FlamesError(f"strategy {config.strategy} has nobody to lend a style to; leave --style-from out")
    if config.server_momentum and (algorithm.blend != "mean" or alone):
        raise FlamesError(
            f"strategy {config.strategy} has no server momentum; leave --server-momentum out, "
            "or take a strategy that averages, such as fedavg or fedgs"
        )
    return replace(algorithm, server_momentum=config.server_momentum, server_lr=config.server_lr)


def _plan(config: FederateConfig, algorithm: Algorithm, partition: Partition, resumed: State | None) -> Plan:
    options = options_for(partition.channels, config.model_options)
    model = _initial_model(config, options, partition.size, "none" if resumed else encoder_weights_of(config))
    decay = WEIGHT_DECAY[config.optimiser] if config.weight_decay is None else config.weight_decay
    return Plan(
        algorithm=algorithm,
        rounds=config.rounds,
        seed=config.seed,
        model=config.model,
        model_options=options,
        initial=to_weights(model),
        size=partition.size,
        channels=partition.channels,
        epochs=config.local_epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        lr_by_modality=dict(config.lr_by_modality),
        dice_weight=config.dice_weight,
        per_pixel_focal=config.per_pixel_focal,
        augment=config.augment,
        optimiser=config.optimiser,
        weight_decay=decay,
        keep=config.keep_epoch,
        proximal_mu=config.proximal_mu,
        precise_norm=config.precise_norm,
        share=config.share,
        style_from=config.style_from,
        entries=describe_entries(model, config.share, config.style_from is not None),
    )


def _initial_model(
    config: FederateConfig, options: dict[str, Any], size: int, encoder_weights: str
) -> SegmentationModel:
    """What every model starts from.

    Raises:
        FlamesError: the images are too small for the model, or there are no such encoder weights.
    """
    model = build_model(config.model, encoder_weights, seed=initial_seed(config.seed), **options)
    if size < model.min_size:
        raise FlamesError(
            f"the images are {size}×{size}, this {config.model} needs {model.min_size}×{model.min_size}; "
            "preprocess with a larger --size, or take a shallower model (--model-option depth=N of unet)"
        )
    return model


def encoder_weights_of(config: FederateConfig) -> str:
    """What was asked for, else ImageNet's for the model that has them."""
    return config.encoder_weights or ("imagenet" if config.model == "densenet-unet" else "none")


def _node_configs(
    config: FederateConfig, algorithm: Algorithm, partition: Partition
) -> dict[int, NodeConfig]:
    """One node a client; where the algorithm pools, one a group with the shards of all its clients."""
    unknown = [name for name in config.lr_by_modality if name not in partition.modalities]
    if unknown:
        raise FlamesError(
            f"--lr names '{unknown[0]}', expected a modality of {', '.join(partition.modalities)}"
        )
    members: dict[str, list[ClientEntry]] = {}
    for entry in partition.clients:
        name = algorithm.group_of(entry.name, entry.modality) if algorithm.pooled else entry.name
        members.setdefault(name, []).append(entry)
    return {
        FIRST_NODE + index: {
            "client": name,
            "shard": SHARD_SEPARATOR.join(str(checked_shard(config.workspace, entry)) for entry in entries),
            "device": config.device,
            "precision": config.precision,
        }
        for index, (name, entries) in enumerate(members.items())
    }


def _options_as_run(config: FederateConfig) -> dict[str, Any]:
    options = config.model_dump(mode="json", exclude={"workspace", "fresh"})
    return {**options, "run": config.run_name, "encoder_weights": encoder_weights_of(config)}


def _resume(
    run: RunFolder, options: dict[str, Any], facts: dict[str, Any], config: FederateConfig
) -> State | None:
    """The state to go on from; None starts anew.

    Raises:
        FlamesError: the run was made with other options, or on another partition; lists the differences.
    """
    if not config.fresh and not run.config.exists() and run.path.is_dir() and any(run.path.iterdir()):
        raise FlamesError(
            f"{run.path} holds files but no config.toml of a run; pass --fresh to delete it, or another --run"
        )
    if config.fresh or not run.config.exists():
        return None
    before = read_config(run.config)
    made = before.get("run", {})
    was = {
        **before.get("federate", {}),
        "partition": made.get("partition_sha256"),
        "channels": made.get("channels", 1),
    }
    now = {**options, "partition": facts["partition_sha256"], "channels": facts["channels"]}
    differing = [
        f"{key} {was.get(key)!r} → {now.get(key)!r}"
        for key in sorted({*was, *now} - FREE_TO_CHANGE)
        if was.get(key) != now.get(key)
    ]
    if differing:
        raise FlamesError(
            f"run '{run.name}' was made with other options ({'; '.join(differing)}); "
            "pass --fresh to start it anew, or another --run NAME"
        )
    if not list_rounds(run.checkpoints):
        return None
    state = load_state(run.checkpoints)
    keep_rounds_until(run.rounds, state.round)
    return state
