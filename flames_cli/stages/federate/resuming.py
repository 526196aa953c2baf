"""Whether a run goes on or starts anew, and what must not have changed in between."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flames_cli.config import FederateConfig
from flames_cli.core.federated.reports import State, count_releases_again
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES, Engine
from flames_cli.stages.federate.planning import encoder_weights_of
from flames_cli.store.checkpoint import (
    DamagedCheckpoint,
    delete_older_rounds,
    list_rounds,
    load_newest_complete,
    round_folder,
    save_state,
    set_aside,
)
from flames_cli.store.client_state import check_client_state, client_folder
from flames_cli.store.files.atomic import remove_leftovers
from flames_cli.store.runs import RunFolder, read_config, read_rounds, truncate_rounds

NOT_STORED = {"workspace", "fresh", "deployment"}
"""Options that are of this call or this machine, not of the run."""

FREE_TO_CHANGE = {
    *("rounds", "keep_rounds", "device", "precision"),
    *("engine", "cpus_per_client", "clients_per_gpu"),
    *("wire_dtype", "max_update_norm"),
    *("min_clients", "min_clients_by_modality", "wait_for_clients", "round_timeout"),
}
"""Options that a resumed run may have otherwise: they do not change what was computed so far."""


def options_as_run(config: FederateConfig) -> dict[str, Any]:
    """The options that a run's config.toml holds."""
    options = config.model_dump(mode="json", exclude=NOT_STORED)
    return {**options, "run": config.run_name, "encoder_weights": encoder_weights_of(config)}


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a run goes on from."""

    state: State
    facts: dict[str, Any]
    """Of the run as it was made."""
    notes: list[str]
    """What was found damaged in its folder, and what became of that."""


def resume(
    run: RunFolder, options: dict[str, Any], facts: dict[str, Any], config: FederateConfig
) -> Resumed | None:
    """What to go on from; None starts anew. A damaged checkpoint is set aside, and its round done again.

    Raises:
        FlamesError: the run was made with other options, or on another partition; lists the differences. Or
            none of its checkpoints is whole.
    """
    if not config.fresh and not run.config.exists() and run.path.is_dir() and any(run.path.iterdir()):
        raise FlamesError(
            f"{run.path} holds files but no config.toml of a run; pass --fresh to delete it, or another --run"
        )
    if config.fresh or not run.config.exists():
        return None
    before = read_config(run.config)
    made = before.get("run", {})
    _check_same(run, {**before.get("federate", {}), **_of_images(made)}, {**options, **_of_images(facts)})
    remove_leftovers(run.path)
    if not list_rounds(run.checkpoints):
        _check_nothing_lost(run)
        return None
    _check_client_state_stays(config, str(before.get("federate", {}).get("engine", "inline")))
    state, damaged = load_newest_complete(run.checkpoints, partial(_check_client_states, run, config, made))
    if config.dp_noise is not None:
        state = _pay_again(run, state)
    notes = [
        f"the checkpoint of {one.round_folder.name} is damaged ({one.what}) and is set aside as "
        f"{set_aside(one.round_folder).name}; going on after round {state.round}"
        for one in damaged
    ]
    delete_older_rounds(run.checkpoints, config.keep_rounds)
    return Resumed(state, made, [*notes, *truncate_rounds(run.rounds, state.round)])


def _pay_again(run: RunFolder, state: State) -> State:
    """`state` with the rounds counted once more that were seen before their checkpoints were lost.

    Kept at once, before what is damaged is set aside: a crash from here on may count them twice, never less.
    """
    # The last line may be of a round whose checkpoint was never written, and so of no model that was seen.
    kept = list_rounds(run.checkpoints)
    lines = (record["round"] - 1 for record in read_rounds(run.rounds))
    lost = max([*kept, *lines]) - state.round
    if not lost:
        return state
    paid = count_releases_again(state, lost)
    save_state(run.checkpoints, paid, keep=len(kept))
    return paid


def _of_images(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "partition": facts.get("partition_sha256"),
        "size": facts.get("size"),
        "channels": facts.get("channels", 1),
    }


def _check_same(run: RunFolder, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises FlamesError with every difference that changes what was computed."""
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


def _check_nothing_lost(run: RunFolder) -> None:
    """Raises FlamesError where checkpoints of rounds are gone: a crash costs the last one only."""
    if len(done := read_rounds(run.rounds)) > 1:
        raise FlamesError(
            f"run '{run.name}' has done {len(done)} rounds, and {run.checkpoints} holds no checkpoint of "
            "them; copy one back from a backup, or pass --fresh to start anew"
        )


def _has_client_state(config: FederateConfig) -> bool:
    """Whether clients keep anything between rounds."""
    return config.share == "content" or get_algorithm(config.strategy).has_client_state


def _check_client_states(
    run: RunFolder, config: FederateConfig, made: Mapping[str, Any], state: State
) -> None:
    """Raises DamagedCheckpoint where clients on this machine lack what they kept up to this state."""
    if (
        ENGINES[config.engine].clients_hold_their_data
        or not _has_client_state(config)
        or state.round >= config.rounds
    ):
        return
    for client, last in state.clients.items():
        try:
            if last.round:
                check_client_state(client_folder(run.clients, str(made.get("token")), client), last.round)
        except FlamesError as error:
            what = f"what {client} kept of round {last.round} is missing or damaged"
            raise DamagedCheckpoint(round_folder(run.checkpoints, state.round), what) from error


def _check_client_state_stays(config: FederateConfig, before: str) -> None:
    """What clients keep between rounds lies at the nodes; elsewhere they would go on without it.

    Raises:
        FlamesError: they keep something, and the nodes are others now.
    """
    there = ENGINES.get(before, Engine()).clients_hold_their_data
    if _has_client_state(config) and there != ENGINES[config.engine].clients_hold_their_data:
        raise FlamesError(
            f"what the clients of this run keep between rounds lies where --engine {before} left it, so it "
            f"cannot go on with --engine {config.engine}; take {before}, or --fresh to start anew"
        )


def run_token(resumed: Resumed | None) -> str:
    """16 hex digits by which clients find what they keep for this run: new for one that starts anew."""
    made = resumed.facts if resumed else {}
    return str(made.get("token") or secrets.token_hex(8))
