"""Whether a run goes on or starts anew, and what must not have changed in between."""

import secrets
from typing import Any

from flames_cli.config import FederateConfig
from flames_cli.core.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.stages.federating.planning import encoder_weights_of
from flames_cli.store.checkpoint import list_rounds, load_state
from flames_cli.store.runs import RunFolder, keep_rounds_until, read_config

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


def resume(
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
        "size": made.get("size"),
        "channels": made.get("channels", 1),
    }
    now = {
        **options,
        "partition": facts["partition_sha256"],
        "size": facts["size"],
        "channels": facts["channels"],
    }
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
    _check_memory_stays(config, str(was.get("engine", "inline")))
    state = load_state(run.checkpoints)
    keep_rounds_until(run.rounds, state.round)
    return state


def _check_memory_stays(config: FederateConfig, before: str) -> None:
    """What clients keep between rounds lies at the nodes; elsewhere they would go on without it.

    Raises:
        FlamesError: they keep something, and the nodes are others now.
    """
    keeps = config.share == "content" or get_algorithm(config.strategy).local == "scaffold"
    if keeps and (before == "superlink") != (config.engine == "superlink"):
        raise FlamesError(
            f"what the clients of this run keep between rounds lies where --engine {before} left it, so it "
            f"cannot go on with --engine {config.engine}; take {before}, or --fresh to start anew"
        )


def run_token(run: RunFolder, resumed: State | None) -> str:
    """16 hex digits by which clients find what they keep for this run: new for one that starts anew."""
    made = read_config(run.config).get("run", {}) if resumed else {}
    return str(made.get("token") or secrets.token_hex(8))
