"""Checks of the weights from which a federation starts: they fit the run, are complete, and can be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import find_negative_variance, find_not_finite
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.plan import client_model
from flames_cli.learn.models import model_class, options_for
from flames_cli.stages.federate.inputs import Images, clients_of_run
from flames_cli.stages.federate.planning import Initial
from flames_cli.store.models import ModelInfo


@dataclass(frozen=True, slots=True)
class Source:
    """The models of a source of weights."""

    what: str
    """The source, as a message names it, such as run 'flames'."""
    model: str
    norm: str
    options: Mapping[str, Any]
    size: int
    channels: int
    modality: str = ""
    """Empty: the source has models of several modalities."""


def check_complete(
    what: str, clients: Iterable[tuple[str, str]], algorithm: Algorithm, initial: Initial
) -> None:
    """Raise FlamesError if a client has no model to start from."""
    alone = not algorithm.clients_share_models
    missing = [
        name if alone else modality
        for name, modality in clients
        if initial.every is None
        and modality not in initial.by_model
        and not (alone and client_model(name) in initial.by_model)
    ]
    if missing:
        listed = ", ".join(dict.fromkeys(missing))
        raise FlamesError(
            f"{what} has no model from which {listed} can start, expected one for each modality (it has "
            f"{', '.join(initial.by_model) or 'none'}); pass another --start-from, or partition data sets of "
            "its modalities only (--dataset), or pass --clients"
        )


def check_same(config: FederateConfig, images: Images, source: Source) -> str:
    """Check that the models of the source are those of the run, and return the modality as the run names it.

    Raises:
        FlamesError: they differ; the message names each difference.
    """
    mine = options_for(images.channels, {**config.model_options})
    pairs = [
        ("model", source.model, config.model),
        ("norm", source.norm, config.training.norm),
        ("size", source.size, images.size),
        ("channels", source.channels, images.channels),
    ]
    if source.model == config.model:
        known = _default_options(source.model)
        was, now = {**known, **source.options}, {**known, **mine}
        names = sorted({*was, *now} - {"in_channels"})
        pairs += [(f"model option {name}", was.get(name), now.get(name)) for name in names]
    differing = [f"{name} {was} → {now}" for name, was, now in pairs if was != now]
    modality = same = source.modality
    if modality and images.partition and not ENGINES[config.engine].clients_hold_their_data:
        there = list(dict.fromkeys(one.modality for one in clients_of_run(config, images.partition)))
        same = next((one for one in there if one.casefold() == modality.casefold()), modality)
        if others := [one for one in there if one != same]:
            differing.append(f"modality {modality} → {', '.join(others)}")
    if differing:
        raise FlamesError(
            f"{source.what} does not fit this run ({'; '.join(differing)}), expected the same; change the "
            "options of this run, preprocess with the size and channels of the model, or pass another "
            "--start-from"
        )
    return same


def _default_options(model: str) -> dict[str, Any]:
    """Return the default options of a model: a run states only those that were given."""
    parameters = signature(model_class(model)).parameters
    return {name: one.default for name, one in parameters.items() if one.default is not one.empty}


def check_fit(info: ModelInfo, weights: Weights) -> None:
    """Raise FlamesError if the weights of a model folder do not fit its architecture."""
    # Imported here, since it imports torch, which takes seconds.
    from flames_cli.learn.use import check_model

    check_model(info, weights)


def check_usable(what: str, initial: Initial) -> None:
    """Raise FlamesError if weights are not finite, or a variance is negative."""
    for weights in (*([initial.every] if initial.every else []), *initial.by_model.values()):
        variances = {entry for entry in weights if entry.endswith(".running_var")}
        if fault := find_not_finite(weights) or find_negative_variance(weights, variances):
            raise FlamesError(
                f"{what} has weights that cannot be used ({fault}), expected finite weights; pass an earlier "
                "--start-round, or another --start-from"
            )
