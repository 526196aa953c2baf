"""Resuming: whether a run continues or starts again, and the options that must be the same."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from flames_cli.config import FederateConfig, keys_with
from flames_cli.core.federated.lr_schedule import LrSchedule
from flames_cli.core.federated.reports import State, count_releases_again
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES, Engine
from flames_cli.learn.train_options import BY_MODEL
from flames_cli.stages.federate.modality_files import Repair, has_rounds, remove_damage
from flames_cli.stages.federate.planning import encoder_weights_of
from flames_cli.stages.federate.swarm import options_of_swarm
from flames_cli.stages.rounds import reason_for_last_only, rounds_to_keep
from flames_cli.stages.run_plugins import require_run_plugins
from flames_cli.store.checkpoint import (
    DamagedCheckpoint,
    delete_older_rounds,
    list_rounds,
    load_newest_complete,
    nothing_more,
    round_folder,
    save_state,
    set_aside,
)
from flames_cli.store.client_state import check_client_state, client_folder
from flames_cli.store.files.atomic import remove_leftovers
from flames_cli.store.partitions import name_now, name_then
from flames_cli.store.runs import (
    PARTITION_SHA256,
    RunFolder,
    list_differences,
    read_config,
    read_rounds,
    truncate_rounds,
)

NOT_STORED = keys_with(FederateConfig, "stored", False)
"""Options of this call or this machine, which are not stored with the run."""

FREE_TO_CHANGE = keys_with(FederateConfig, "may_change", True)
"""Options that may differ when a run is resumed: they do not change what was computed so far."""

BEFORE = {
    "lr_schedule": "constant",
    "warmup": 0,
    "local_epochs_by_modality": {},
    "norm": "batch",
    "fraction": 1.0,
    "ema": 0.0,
    "freeze": "none",
    "clients": [],
    "secure_aggregation": False,
    "asynchronous": False,
    "buffer": 2,
    "staleness": 0.5,
    "slow": {},
    "jitter": 0.1,
    "loss": "dice-focal",
    "augmentations": [],
    "rounds_by": "all",
    "topology": None,
    "neighbours": None,
    "absent": 0.0,
}
"""Values of the options that earlier releases did not have, with which they trained."""


def options_as_run(config: FederateConfig) -> dict[str, Any]:
    """Return the options that a run's config.toml contains, with the values that the model decides."""
    options = config.model_dump(mode="json", exclude=NOT_STORED)
    chosen = {key: getattr(config.training, key) for key in BY_MODEL}
    weights = encoder_weights_of(config)
    return {
        **options,
        **chosen,
        **options_of_swarm(config),
        "run": config.run_name,
        "encoder_weights": weights,
    }


@dataclass(frozen=True, slots=True)
class Resumed:
    """State from which a run continues."""

    state: State
    facts: dict[str, Any]
    """Facts of the run when it was made."""
    notes: list[str]
    """Descriptions of the damage found in its folder, and of its repair."""


def resume(run: RunFolder, config: FederateConfig, facts: dict[str, Any]) -> Resumed | None:
    """Return the state from which the run continues; None if it starts again.

    A damaged checkpoint is set aside, and its round is repeated.

    Raises:
        FlamesError: the run was made with other options, or on another partition (the message lists the
            differences); or none of its checkpoints is complete.
    """
    if not config.fresh and not run.config.exists() and run.path.is_dir() and any(run.path.iterdir()):
        raise FlamesError(
            f"{run.path} contains files but no config.toml of a run; pass --fresh to rename it, or another "
            "--run"
        )
    if config.fresh or not run.config.exists():
        return None
    before = check_same_options(run, config, facts)
    made = before.get("run", {})
    remove_leftovers(run.path)
    by_modality = config.by_modality
    if not list_rounds(run.checkpoints):
        _check_nothing_lost(run)
        if not (by_modality and has_rounds(run)):
            return None
    _check_client_state_stays(config, str(before.get("federate", {}).get("engine", "inline")))
    check = partial(_check_client_states, config, made, run.clients)
    state, damaged = State(0, {}), list[DamagedCheckpoint]()
    if list_rounds(run.checkpoints):
        check_all = nothing_more if by_modality else partial(check, run)
        state, damaged = load_newest_complete(run.checkpoints, check_all, mapped=True)
    if config.dp_noise is not None and not by_modality:
        state = _count_privacy_again(run, state)
    notes = require_run_plugins(run, made)
    notes += [
        f"the checkpoint of {one.round_folder.name} is damaged ({one.what}) and is set aside as "
        f"{set_aside(one.round_folder).name}; continuing after round {state.round}"
        for one in damaged
    ]
    notes += truncate_rounds(run.rounds, state.round)
    if by_modality:
        done = state.round >= config.rounds and state.statistics is not None
        pay = _count_privacy_again if config.dp_noise is not None else _count_nothing
        notes += remove_damage(run, state, Repair(_check_nothing if done else check, pay))
    stored, only_last = list_rounds(run.checkpoints), reason_for_last_only(config)
    best = rounds_to_keep(read_rounds(run.rounds), stored, only_last)
    delete_older_rounds(run.checkpoints, config.keep_rounds, best)
    return Resumed(state, made, notes)


def _count_privacy_again(run: RunFolder, state: State) -> State:
    """Return `state` with the privacy of those rounds counted again that were released before their
    checkpoints were lost.

    The state is saved before a damaged checkpoint is set aside: after a crash the rounds may be counted
    twice, never too seldom.
    """
    # The last line may be of a round whose checkpoint was never written, so that its model was never
    # released.
    kept = list_rounds(run.checkpoints)
    lines = (record["round"] - 1 for record in read_rounds(run.rounds))
    lost = max([*kept, *lines]) - state.round
    if not lost:
        return state
    paid = count_releases_again(state, lost)
    save_state(run.checkpoints, paid, keep=len(kept))
    return paid


def _count_nothing(_: RunFolder, state: State) -> State:
    """Return `state`: the run has no privacy account."""
    return state


def _check_nothing(_run: RunFolder, _state: State) -> None:
    """Accept every state."""


def _of_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": facts.get("size"), "channels": facts.get("channels", 1)}


def check_same_options(run: RunFolder, config: FederateConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Check that no option of an existing run differs that changes what is computed.

    Returns:
        The run's configuration.

    Raises:
        FlamesError: options differ (the message lists all of them), or the configuration cannot be read.
    """
    before = read_config(run.config)
    stored = {**BEFORE, **before.get("federate", {})}
    _check_same_rounds(run, stored, config)
    old_images, images = _of_images(before.get("run", {})), _of_images(facts)
    was, now = {**stored, **old_images}, {**options_as_run(config), **images}
    differing = list_differences(was, now, sorted({*was, *now} - FREE_TO_CHANGE - {"run"}))
    may_resume = old_images == images
    if before.get("run", {}).get(PARTITION_SHA256) != facts.get(PARTITION_SHA256):
        found = name_now(config.workspace, before)
        differing.insert(0, _describe_partitions(before, found, config, facts))
        may_resume = found is not None
    if differing:
        raise FlamesError(
            f"run '{run.name}' was made with other options ({'; '.join(differing)}); "
            "pass --fresh to start it again, or another --run NAME"
            # Defaults change between releases; --resume takes those with which the run was made.
            + (f", or --resume {run.name} to continue it as it was made" if may_resume else "")
        )
    return before


def _describe_partitions(
    before: Mapping[str, Any], found: str | None, config: FederateConfig, facts: Mapping[str, Any]
) -> str:
    """Return the partition on which a run was made, which is called `found` now, and that of this call."""
    made_on = name_then(before)
    if before.get("run", {}).get(PARTITION_SHA256) is None:
        was = "none"
    elif found == made_on:
        was = f"'{made_on}'"
    else:
        now_called = f"called '{found}' now" if found else "gone"
        was = f"'{made_on}' as it was before, which is {now_called}"
    now = "none" if facts.get(PARTITION_SHA256) is None else f"'{config.partition}'"
    return f"partition {was} → {now}"


def _check_same_rounds(run: RunFolder, was: Mapping[str, Any], config: FederateConfig) -> None:
    """Check that the number of rounds is the same if the learning rates of all rounds depend on it.

    Raises:
        FlamesError: it differs, and with it the rates of rounds that are done.
    """
    schedule = LrSchedule(config.lr_schedule, config.warmup)
    rounds = was.get("rounds", config.rounds)
    if schedule.depends_on_rounds and rounds != config.rounds:
        raise FlamesError(
            f"run '{run.name}' was made with --rounds {rounds}, from which --lr-schedule {schedule.kind} "
            f"computes the learning rate of every round, got --rounds {config.rounds}; pass --rounds "
            f"{rounds}, --fresh to start the run again, or another --run NAME"
        )


def _check_nothing_lost(run: RunFolder) -> None:
    """Check that no checkpoints are lost: a crash costs at most the last one.

    Raises:
        FlamesError: rounds were done and there is no checkpoint.
    """
    if len(done := read_rounds(run.rounds)) > 1:
        raise FlamesError(
            f"run '{run.name}' has done {len(done)} rounds, and {run.checkpoints} contains no checkpoint of "
            "them; copy one back from a backup, or pass --fresh to start again"
        )


def _has_client_state(config: FederateConfig) -> bool:
    """Return whether clients store state between rounds."""
    algorithm = get_algorithm(config.strategy)
    own_models = config.secure_aggregation and algorithm.blends_for_each
    return config.style_stays or algorithm.has_client_state or own_models


def _check_client_states(
    config: FederateConfig, made: Mapping[str, Any], clients: Path, run: RunFolder, state: State
) -> None:
    """Check that the clients on this machine, whose state is in `clients`, have it up to this round.

    Raises:
        DamagedCheckpoint: the state of a client is missing or damaged.
    """
    if (
        ENGINES[config.engine].clients_hold_their_data
        or not _has_client_state(config)
        or (state.round >= config.rounds and state.statistics is not None)
    ):
        return
    for client, last in state.clients.items():
        try:
            if last.round:
                check_client_state(client_folder(clients, str(made.get("token")), client), last.round)
        except FlamesError as error:
            what = f"the state of client {client} after round {last.round} is missing or damaged"
            raise DamagedCheckpoint(round_folder(run.checkpoints, state.round), what) from error


def _check_client_state_stays(config: FederateConfig, before: str) -> None:
    """Check that the clients' state is where this engine looks for it: the nodes of another engine do not
    have it.

    Raises:
        FlamesError: clients have state, and the engine now uses other nodes.
    """
    there = ENGINES.get(before, Engine()).clients_hold_their_data
    if _has_client_state(config) and there != ENGINES[config.engine].clients_hold_their_data:
        raise FlamesError(
            f"the client state of this run is stored by --engine {before}, so the run "
            f"cannot continue with --engine {config.engine}; use {before}, or --fresh to start again"
        )


def run_token(resumed: Resumed | None) -> str:
    """Return the token of the run, 16 hex digits by which clients find their state for it; a new one for a
    new run."""
    made = resumed.facts if resumed else {}
    return str(made.get("token") or secrets.token_hex(8))
