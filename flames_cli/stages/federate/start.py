"""`--start-from`: the weights from which a federation starts, of a run, a model folder, or a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli.arrays import Weights
from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.errors import FlamesError, MissingArtifact
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.plan import client_model
from flames_cli.learn.models import options_for
from flames_cli.stages.export.making import START
from flames_cli.stages.export.source_runs import SourceRun, read_source_run
from flames_cli.stages.federate.inputs import Images, clients_of_run
from flames_cli.stages.federate.planning import Initial, choose_algorithm
from flames_cli.stages.federate.start_checks import (
    Source,
    check_complete,
    check_fit,
    check_same,
    check_usable,
)
from flames_cli.stages.model_origins import find_origin, origin_of_run
from flames_cli.stages.models.weights_files import SUFFIXES, is_weights_file
from flames_cli.stages.own_models import are_only_at_sites
from flames_cli.stages.seen_patients import People, Provenance, check_unseen, people_of_partition
from flames_cli.stages.server_models import ServerModel, list_server_models
from flames_cli.store.checkpoint import index_path
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.models import INFO, read_model
from flames_cli.store.runs import PARTITION_SHA256, find_members, read_config, run_folder
from flames_cli.store.workspace import model_folder


@dataclass(frozen=True, slots=True)
class Start:
    """Weights from which a run starts, with what is stored and said about them."""

    initial: Initial = field(default_factory=Initial)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Entries for the run's facts."""
    notes: tuple[str, ...] = ()


def read_start(config: FederateConfig, images: Images) -> Start:
    """Return the start of a new run; an empty one without `--start-from`.

    Raises:
        MissingArtifact: there is no such run, model folder or file.
        FlamesError: the models of the source do not fit those of the run (the message names each difference),
            there is none for a modality, or the source was trained on patients of this partition's tests.
    """
    _check_options(config)
    if config.start_from is None:
        return Start()
    name, path = config.start_from, Path(config.start_from)
    algorithm = choose_algorithm(config)
    found = _find_run(config, images, name)
    if found is not None:
        start = _from_run(
            config, images, algorithm, read_source_run(config.workspace, found, config.start_round)
        )
    elif config.start_round is not None:
        raise FlamesError(
            f"got --start-round {config.start_round} with --start-from {name}, which is no run of "
            f"{config.workspace}, expected a run; leave --start-round out"
        )
    elif path.is_file() and is_weights_file(path):
        start = _from_file(config, images, path)
    else:
        start = _from_folder(config, images, algorithm, _find_folder(config, path))
    return _with_unseen(config, images, start)


def _check_options(config: FederateConfig) -> None:
    """Raise FlamesError if options exclude each other."""
    if config.start_from is None and config.start_round is not None:
        raise FlamesError(
            f"got --start-round {config.start_round} without --start-from, expected both; pass --start-from "
            "with the run that has this round"
        )
    if config.start_from is not None and config.encoder_weights not in (None, "none"):
        raise FlamesError(
            f"got --encoder-weights {config.encoder_weights} with --start-from {config.start_from}, which "
            "gives all weights, expected one of the two; leave one out"
        )


def _find_run(config: FederateConfig, images: Images, name: str) -> str | None:
    """Return the name of the source run; None if no run has the name.

    Of a family, it is the run with the seed of this run, and on its partition.
    """
    if run_folder(config.workspace, name).config.is_file():
        return name
    members = find_members(config.workspace, name) if Path(name).name == name else []
    if not members:
        return None
    sha256 = images.partition.sha256 if images.partition else None
    tables = {run.name: read_config(run.config) for run in members}
    same = [
        run
        for run, content in tables.items()
        if content.get("federate", {}).get("seed") == config.seed
        and content.get("run", {}).get(PARTITION_SHA256) == sha256
    ]
    if len(same) != 1:
        raise FlamesError(
            f"'{name}' is {len(members)} runs with different seeds or folds, of which {len(same)} have seed "
            f"{config.seed} and this partition, expected one; pass one of {', '.join(tables)}"
        )
    return same[0]


def _find_folder(config: FederateConfig, path: Path) -> Path:
    """Return the model folder of that path, or of that name in models/ of the workspace.

    Raises:
        MissingArtifact: there is none.
        FlamesError: it is a file of another kind.
    """
    for folder in (path, model_folder(config.workspace, str(path))):
        if (folder / INFO).is_file():
            return folder
    if path.is_file():
        raise FlamesError(
            f"--start-from {path} ends in {path.suffix!r}, expected a run, a model folder, or a file that "
            f"ends in {', '.join(SUFFIXES)}; check --start-from"
        )
    raise MissingArtifact(
        f"--start-from {path} is neither a run nor a model folder of {config.workspace}, nor the path of a "
        "model folder or of a file of weights; see `flames runs` and `flames models`"
    )


def _from_run(config: FederateConfig, images: Images, algorithm: Algorithm, run: SourceRun) -> Start:
    made, what, taking_part = run.config, f"run '{run.folder.name}'", _clients(config, images)
    options = options_for(run.channels, made.model_options)
    check_same(config, images, Source(what, made.model, made.training.norm, options, run.size, run.channels))
    if algorithm.groups == "all":
        initial = Initial(_only_model(run))
        used = ["all"]
    else:
        by_modality = {
            modality: run.state.final_server_model(one.group, modality)
            for modality, one in _by_modality(run).items()
        }
        elsewhere = algorithm.clients_share_models or are_only_at_sites(made)
        own = {} if elsewhere else _own_models(run, taking_part)
        every = run.state.final_server_model("all", "") if "all" in run.state.server else None
        initial = Initial(every, {**by_modality, **own})
        used = list(initial.by_model)
    check_usable(what, initial)
    check_complete(what, taking_part.items(), algorithm, initial)
    round_ = run.state.round
    facts = {
        "kind": "run",
        "name": run.folder.name,
        "strategy": made.strategy,
        "round": round_,
        "why": run.chosen.why,
        "sha256": hash_file(index_path(run.folder.checkpoints, round_)),
        "models": used,
    }
    models = _describe(algorithm, initial, taking_part)
    notes = [f"the models start from {what}, round {round_} ({run.chosen.why}): {models}"]
    if run.has_stale_statistics:
        notes.append(
            f"the clients of {what} did not estimate the statistics of BatchNorm of round {round_}, so the "
            "start has those of training; the last and the best round have better ones"
        )
    return _made(config, algorithm, initial, facts, notes, origin_of_run(run))


def _from_folder(config: FederateConfig, images: Images, algorithm: Algorithm, folder: Path) -> Start:
    info, weights = read_model(folder)
    what = f"model '{info.name}'"
    made = info.architecture
    image, options = info.input, options_for(info.input.channels, made.options)
    source = Source(what, made.model, made.norm, options, image.size, image.channels, image.modality)
    modality = check_same(config, images, source)
    check_fit(info, weights)
    # Clients of other modalities may join real nodes: they must not start from this model.
    initial = Initial(weights) if algorithm.groups == "all" else Initial(None, {modality: weights})
    check_usable(what, initial)
    facts = {"kind": "model", "name": info.name, "sha256": info.sha256, "models": [modality]}
    notes = [f"the models start from {what} ({folder}), for {modality}"]
    origin = find_origin(config.workspace, info, weights)
    return _made(config, algorithm, initial, facts, notes, origin)


def _from_file(config: FederateConfig, images: Images, path: Path) -> Start:
    # Imported here, since it imports torch, which takes seconds.
    from flames_cli.learn.models.weights import read_complete

    options = options_for(images.channels, config.model_options)
    initial = Initial(read_complete(path, config.model, config.training.norm, options))
    check_usable(str(path), initial)
    facts = {"kind": "file", "name": path.name, "sha256": hash_file(path), "models": ["all"]}
    notes = [f"the models start from the weights in {path}"]
    origin = Provenance(path.name, unknown="a file of weights does not say who trained it")
    return _made(config, choose_algorithm(config), initial, facts, notes, origin)


def _made(
    config: FederateConfig,
    algorithm: Algorithm,
    initial: Initial,
    facts: Mapping[str, Any],
    notes: list[str],
    origin: Provenance,
) -> Start:
    if config.style_stays:
        notes.append(
            "with --share content the style of each client starts as it is drawn by seed, and only the "
            "content starts from --start-from"
        )
    if algorithm.privacy:
        notes.append(
            "the privacy of --dp-noise covers the rounds of this run only, not the patients on whom the "
            "start was trained"
        )
    where = {"partitions": list(origin.partitions), "unknown": origin.unknown, "source": origin.source}
    return Start(initial, {START: {**facts, **where}}, tuple(notes))


def _with_unseen(config: FederateConfig, images: Images, start: Start) -> Start:
    """Return `start` with notes on what cannot be known of its patients; raises as `check_unseen`."""
    facts = start.facts[START]
    origin = Provenance(facts["source"], tuple(facts["partitions"]), facts["unknown"])
    kept = {key: value for key, value in facts.items() if key != "source"}
    if images.partition is None:
        notes = [
            f"it is not known whether {origin.source} was trained on test patients of the nodes: their "
            "patients are named at their sites only; make sure that it was not, or its scores are too high"
        ]
    else:
        partition = images.partition
        same = "" if ENGINES[config.engine].clients_hold_their_data else partition.sha256
        others = any(sha256 != same for sha256 in origin.partitions)
        people = people_of_partition(partition) if others else People()
        where = f"partition '{partition.name}'"
        notes = check_unseen(config.workspace, origin, people, where, same)
    return Start(start.initial, {START: kept}, (*start.notes, *notes))


def _by_modality(run: SourceRun) -> dict[str, ServerModel]:
    """Return the server model of each modality that has only one."""
    models: dict[str, list[ServerModel]] = {}
    for one in list_server_models(run.clients, run.algorithm, run.state):
        models.setdefault(one.modality, []).append(one)
    return {modality: found[0] for modality, found in models.items() if len(found) == 1}


def _clients(config: FederateConfig, images: Images) -> dict[str, str]:
    """Return the modality of each client of the new run; empty with real nodes, which are not known yet."""
    if images.partition is None or ENGINES[config.engine].clients_hold_their_data:
        return {}
    return {one.name: one.modality for one in clients_of_run(config, images.partition)}


def _own_models(run: SourceRun, wanted: Mapping[str, str]) -> dict[str, Weights]:
    """Return the model of each of the `wanted` clients (empty: all) that took part, as it uses it after the
    round."""
    took_part = [
        one
        for one in run.clients
        if (not wanted or one.name in wanted) and (last := run.state.clients.get(one.name)) and last.round
    ]
    return {
        client_model(one.name): run.state.final_model_for(
            one.name, run.algorithm.model_group_of(one.name, one.modality), one.modality
        )
        for one in took_part
    }


def _only_model(run: SourceRun) -> Weights:
    """Return the only server model of a run.

    Raises:
        FlamesError: it has several.
    """
    groups = list(run.state.server)
    if len(groups) > 1:
        raise FlamesError(
            f"run '{run.folder.name}' has {len(groups)} models ({', '.join(groups)}), and this strategy has "
            "one for all clients, expected one; export one with `flames export`, and pass its folder to "
            "--start-from"
        )
    modality = "" if groups[0] == "all" else next(iter(one.modality for one in run.clients), "")
    return run.state.final_server_model(groups[0], modality)


def _describe(algorithm: Algorithm, initial: Initial, clients: Iterable[str]) -> str:
    """Return which models of a run the models start from; `clients` is empty if they are not known yet."""
    own = [name for name in initial.by_model if name.startswith(client_model(""))]
    server = [name for name in initial.by_model if name not in own]
    parts = []
    if own:
        named = [name.removeprefix(client_model("")) for name in own]
        parts.append(f"{', '.join(named)} from their own models of that round")
        if server and {*clients} != {*named}:
            parts.append(f"other clients from the server's models of {', '.join(server)}")
    elif server:
        parts.append(f"each modality from the server's model ({', '.join(server)})")
    elif algorithm.groups == "all":
        parts.append("the server's model")
    return "; ".join(filter(None, parts))
