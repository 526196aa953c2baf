"""Partitions on whose patients a model was trained, as far as this workspace knows."""

from contextlib import suppress
from typing import Any

import numpy as np

from flames_cli.arrays import Weights
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import ENGINES
from flames_cli.stages.export.making import CLIENT, START, make_model
from flames_cli.stages.export.source_runs import SourceRun, read_source_run
from flames_cli.stages.seen_patients import Provenance
from flames_cli.store.models import ModelInfo
from flames_cli.store.runs import PARTITION_SHA256, read_config


def origin_of_run(run: SourceRun) -> Provenance:
    """Return the partition of a run, and those of the models from which it started."""
    facts = read_config(run.folder.config).get("run", {})
    start: dict[str, Any] = facts.get(START, {})
    source, own = f"run '{run.folder.name}'", facts.get(PARTITION_SHA256)
    partitions, unknown = [*start.get("partitions", ())], str(start.get("unknown", ""))
    if ENGINES[run.config.engine].clients_hold_their_data or not own:
        unknown = "its clients were real nodes, whose patients are named at their sites only"
    else:
        partitions = [str(own), *partitions]
    return Provenance(source, tuple(dict.fromkeys(partitions)), unknown)


def find_origin(workspace: Any, info: ModelInfo, weights: Weights) -> Provenance:
    """Return the partitions of a model folder.

    Those of an exported model are known if its run is in this workspace and has the same weights.
    """
    source, training = f"model '{info.name}'", info.training
    if training.base is not None:
        return Provenance(source, training.base.partitions, training.base.unknown)
    if training.kind == "file":
        return Provenance(source, unknown="a file of weights does not say who trained it")
    with suppress(FlamesError):
        run = read_source_run(workspace, training.run or None, training.round or None)
        wanted = f"{CLIENT}{training.client}" if training.kind == "client" else info.input.modality
        if _are_equal(make_model(run, wanted)[1], weights):
            made = origin_of_run(run)
            return Provenance(f"{source} of {made.source}", made.partitions, made.unknown)
    return Provenance(source, unknown=f"its run '{training.run}' is not in this workspace")


def _are_equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
