"""Models of a run as model folders have them: the description of each, and its weights."""

import re
from collections.abc import Sequence

from flames_cli.arrays import Weights
from flames_cli.config import MAX_NAME
from flames_cli.core.federated.round_parts import group_label
from flames_cli.errors import FlamesError
from flames_cli.fed.engines import ENGINES, OBSERVER
from flames_cli.learn.hardware import find_versions
from flames_cli.learn.models import options_for, plugin_of
from flames_cli.stages.export.clients import ClientFacts, members_of
from flames_cli.stages.export.source_runs import SourceRun
from flames_cli.stages.own_models import are_only_at_sites
from flames_cli.stages.server_models import ServerModel, list_server_models
from flames_cli.store.models import Architecture, ModelInfo, Seen, TrainedOn, Training, describe_input
from flames_cli.store.runs import read_config
from flames_cli.store.seen import find_seen

START = "start"
"""Key among a run's facts: the table that describes from which weights it started."""

CLIENT = "client:"
"""Prefix of the name of a client's model."""


def list_models(run: SourceRun) -> list[str]:
    """Return the names of the models of a run: those of the server, and `client:NAME` for each client."""
    server = [model.label for model in _server_models(run)]
    if are_only_at_sites(run.config):
        return server
    return [*server, *(f"{CLIENT}{client.name}" for client in run.clients)]


def make_model(run: SourceRun, wanted: str) -> tuple[ModelInfo, Weights]:
    """Return the model that is called `wanted` (see `list_models`), or the only server model of a modality.

    Raises:
        FlamesError: the run has no such model, or several of that modality.
    """
    if wanted.startswith(CLIENT):
        return make_client_model(run, wanted.removeprefix(CLIENT))
    return make_server_model(run, wanted)


def make_client_model(run: SourceRun, client: str) -> tuple[ModelInfo, Weights]:
    """Return the model that a client uses after the round: its personalised one, if the strategy has such.

    It has the client's own statistics of BatchNorm, if the client sent them after the last round.

    Raises:
        FlamesError: the run has no such client.
    """
    found = [one for one in run.clients if one.name == client]
    if found and are_only_at_sites(run.config):
        raise FlamesError(
            f"the own model of client {client} has never left its site, since run '{run.folder.name}' was "
            "made with --secure-aggregation; take it from the folder models of the site, or pass one of "
            f"{', '.join(list_models(run))}"
        )
    if not found:
        raise _unknown(run, f"{CLIENT}{client}")
    own = found[0]
    group = run.state.group_of(own.name, own.modality, run.algorithm)
    weights = run.state.final_model_for(own.name, group, own.modality)
    members = members_of(run.clients, group, run.algorithm, run.state)
    info = _describe(run, own.modality, found, members, own.name)
    return info, weights


def make_server_model(run: SourceRun, wanted: str) -> tuple[ModelInfo, Weights]:
    """Return a server model, for images of one modality, with the statistics of that modality's clients.

    Args:
        run: the run.
        wanted: a modality, or the label of a model, such as `MRI by brats-1` of the strategy local.

    Raises:
        FlamesError: the run has no such model, or several of that modality.
    """
    models = _server_models(run)
    labelled = [one for one in models if one.label == wanted]
    found = labelled or [one for one in models if one.modality == wanted]
    if not found:
        raise _unknown(run, wanted)
    if len(found) > 1:
        raise FlamesError(
            f"'{wanted}' is {len(found)} models of run '{run.folder.name}', expected one; pass one of "
            f"{', '.join(repr(one.label) for one in found)}"
        )
    chosen = found[0]
    weights = run.state.final_server_model(chosen.group, chosen.modality)
    members = members_of(run.clients, chosen.group, run.algorithm, run.state)
    own = [client for client in members if client.modality == chosen.modality]
    return _describe(run, chosen.modality, own, members), weights


def name_model(run: str, model: str) -> str:
    """Return the name of the folder of a run's model: flames-MRI, flames-brats-1."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{run}-{model.removeprefix(CLIENT)}")
    return name[:MAX_NAME].rstrip("-.")


def _server_models(run: SourceRun) -> list[ServerModel]:
    return list_server_models(run.clients, run.algorithm, run.state)


def _unknown(run: SourceRun, wanted: str) -> FlamesError:
    return FlamesError(
        f"found no model '{wanted}', expected a model of run '{run.folder.name}'; pass one of "
        f"{', '.join(list_models(run))}"
    )


def _describe(
    run: SourceRun,
    modality: str,
    own: Sequence[ClientFacts],
    members: Sequence[ClientFacts],
    client: str = "",
) -> ModelInfo:
    """Return the description of a model.

    Args:
        run: the run.
        modality: modality of the images that the model is for.
        own: clients that have such images: the client itself, or those of the modality.
        members: all clients whose data trained the model.
        client: the client whose model it is; empty: it is the server's.
    """
    trained_on = (TrainedOn(one.name, one.modality, one.organ, one.patients, one.images) for one in members)
    return ModelInfo(
        name=name_model(run.folder.name, client or modality),
        architecture=Architecture(
            run.config.model,
            run.config.training.norm,
            options_for(run.channels, run.config.model_options),
            plugin_of(run.config.model),
        ),
        input=describe_input(
            modality,
            tuple(sorted({organ for one in own for organ in one.organ.split(", ") if organ})),
            run.size,
            run.channels,
            [one.preparation for one in own],
        ),
        training=Training(
            kind="client" if client else "server",
            run=run.folder.name,
            client=client,
            strategy=run.config.strategy,
            round=run.state.round,
            rounds=run.chosen.last,
            why=_describe_choice(run, client),
            seed=run.config.seed,
            clients=() if run.is_private else tuple(trained_on),
            plugins=run.plugins or None,
            start=_describe_start(run),
        ),
        validation={} if run.is_private else _validation(run, own, client, members),
        privacy=dict(run.privacy),
        versions=find_versions(),
        seen=None if run.is_private else _seen(own),
    )


def _describe_choice(run: SourceRun, client: str) -> str:
    """Return why the models of this round are used, and what the server model of a swarm is."""
    observed = not client and not ENGINES[run.config.engine].has_server
    return f"{run.chosen.why}; {OBSERVER}" if observed else run.chosen.why


def _describe_start(run: SourceRun) -> str | None:
    """Return from which weights a run started, in a few words; None without `--start-from`."""
    found = read_config(run.folder.config).get("run", {}).get(START)
    if not found:
        return None
    what = "file of weights" if found["kind"] == "file" else found["kind"]
    round_ = f", round {found['round']}" if "round" in found else ""
    return f"{what} {found['name']}{round_} (sha256 {found['sha256']})"


def _validation(
    run: SourceRun, own: Sequence[ClientFacts], client: str, members: Sequence[ClientFacts]
) -> dict[str, float]:
    """Return the validation of a client's model; for a server model that of its clients together, if they
    use this model, and none if each has a model of its own.

    With secure aggregation only the validation of all `members` of a model together is known.
    """
    names = [client] if client else [one.name for one in own]
    if run.config.secure_aggregation:
        alike = not run.algorithm.blends_for_each and len(own) == len(members) and not client
        groups = {run.algorithm.model_group_of(one.name, one.modality) for one in own}
        names = [group_label(group) for group in groups] if alike else []
    if run.algorithm.pooled:
        names = [run.algorithm.model_group_of(one.name, one.modality) for one in own[:1]]
    if not client and any(name in run.state.personal for name in names):
        return {}
    found = [run.validation[name] for name in names if name in run.validation]
    images = sum(one["images"] for one in found)
    if not images:
        return {}
    return {
        "dice": sum(one["dice"] * one["images"] for one in found) / images,
        "images": images,
        "patients": sum(one["patients"] for one in found),
    }


def _seen(own: Sequence[ClientFacts]) -> Seen | None:
    """Return the ranges of the clients' training images; None unless all of them are on this machine."""
    shards = [one.shard for one in own if one.shard]
    return find_seen(shards) if shards and len(shards) == len(own) else None
