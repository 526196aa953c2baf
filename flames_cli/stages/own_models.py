"""The clients' own models of a run with secure aggregation, which no server has: for clients on this machine
they are made of the client state in the run's folder; those of real nodes are at their sites only."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.final_statistics import FinalStatistics
from flames_cli.core.federated.reports import OpenedSum, State
from flames_cli.core.federated.shelf import ClientModels, Load
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.client_state import FINAL
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.messages import SumNote
from flames_cli.fed.secure.own_model import find_expected
from flames_cli.store.client_state import client_folder, load_client_state_of
from flames_cli.store.runs import RunFolder, read_config


def with_own_models(run: RunFolder, state: State) -> State:
    """Return `state` with the clients' own models, and with the statistics that they estimated for them.

    They are loaded when they are used. States of runs without secure aggregation are returned as they are.
    """
    tables = read_config(run.config)
    options = tables.get("federate", {})
    if not options.get("secure_aggregation") or _are_at_sites(str(options.get("engine", "inline"))):
        return state
    token = str(tables.get("run", {}).get("token", ""))
    folders = {client: client_folder(run.clients, token, client) for client in state.clients}
    own: dict[str, Load] = {}
    for client, folder in folders.items():
        if found := state.sum_of(client):
            own[client] = partial(_make_model, folder, found)
    made = replace(state, personal=ClientModels(own)) if own else state
    if made.statistics is None:
        return made
    return replace(made, statistics=_with_final_entries(made.statistics, folders, state.round))


def are_only_at_sites(config: FederateConfig) -> bool:
    """Return whether the clients' models of a run with these options are at their sites only."""
    personal = get_algorithm(config.strategy).blends_for_each
    return config.secure_aggregation and personal and _are_at_sites(config.engine)


def _are_at_sites(engine: str) -> bool:
    return engine in ENGINES and ENGINES[engine].clients_hold_their_data


def _make_model(folder: Path, found: OpenedSum) -> Weights:
    return find_expected(folder, SumNote.of(found), found.words)


def _with_final_entries(found: FinalStatistics, folders: Mapping[str, Path], round_: int) -> FinalStatistics:
    known = {
        client: partial(_final_entries, folder / FINAL, round_)
        for client, folder in folders.items()
        if load_client_state_of(folder / FINAL, round_) is not None
    }
    return replace(found, clients=ClientModels(known))


def _final_entries(folder: Path, round_: int) -> Weights:
    stored: dict[str, Any] = load_client_state_of(folder, round_) or {}
    entries: Weights = stored.get(FINAL, {})
    return entries
