"""Runs to evaluate: each with the models of one round; a family has one for each seed."""

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flames_cli.config import EvaluateConfig, FederateConfig, check_section
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.algorithms import get_algorithm
from flames_cli.fed.engines import ENGINES, OBSERVER
from flames_cli.fed.plan import estimates_statistics
from flames_cli.fed.privacy_accountant import OLDER_ACCOUNTANT
from flames_cli.learn.models import options_for
from flames_cli.learn.segment import Segmenter
from flames_cli.stages.federate.planning import choose_privacy
from flames_cli.stages.federate.resuming import FREE_TO_CHANGE
from flames_cli.stages.rounds import ChosenRound, Rounds, choose_round, load_round, read_run_rounds
from flames_cli.stages.run_plugins import plugin_facts, require_run_plugins
from flames_cli.store.checkpoint import index_path
from flames_cli.store.files.hashes import hash_file
from flames_cli.store.files.locks import reading_partition
from flames_cli.store.fold_sets import are_folds_of_one
from flames_cli.store.partition import NamedPartition, open_partition
from flames_cli.store.partitions import find_run_partition
from flames_cli.store.runs import (
    RunFolder,
    find_run,
    find_runs,
    list_differences,
    planned_names,
    read_config,
    read_member,
    read_rounds,
)
from flames_cli.store.workspace import DEFAULT_PARTITION


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run, its models after one round and the options with which they were made."""

    folder: RunFolder
    strategy: str
    algorithm: Algorithm
    state: State
    checkpoint: str
    """SHA-256 of the checkpoint's index, which contains the checksums of its files."""
    segmenter: Segmenter
    chosen: ChosenRound
    """The round of `state`, and why it was chosen."""
    rounds: Rounds
    seed: int
    """Seed of all random draws in the run."""
    fold: int | None
    """Its fold, if it is one of a family with folds."""
    partition: NamedPartition
    """Partition on which the run was made, under its present name."""
    at_sites: bool = False
    """True if the clients were real nodes, whose data are at their sites."""
    privacy: dict[str, Any] | None = None
    """Privacy cost of its models, if they are private."""
    estimates_statistics: bool = False
    """True if clients estimate the statistics of BatchNorm of the last and the best round's models."""
    plugins: tuple[str, ...] = ()
    """Plug-ins of the run, with package and version."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Run that is evaluated under its name, or the runs of a family in the order of their seeds and folds."""

    name: str
    runs: list[LoadedRun]
    """Not empty; all were made with the same options but their seed and fold."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Runs of the family that are not finished, each with its reason."""

    @property
    def first(self) -> LoadedRun:
        """The run, or the first one of the family."""
        return self.runs[0]

    @property
    def is_family(self) -> bool:
        """True if the name is that of a family, even if only one of its runs is finished."""
        return self.name != self.first.folder.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs."""
        return tuple(run.seed for run in self.runs)


def reading_partitions(config: EvaluateConfig) -> ExitStack:
    """Lock the partitions of all runs that are loaded against writing for a block.

    Raises:
        MissingArtifact: there is no such run.
        FlamesError: the partition of a run does not exist any more.
    """
    if config.weights:
        names = [config.partition or DEFAULT_PARTITION]
    else:
        runs = find_runs(config.workspace, config.run)[1]
        names = sorted({find_run_partition(config.workspace, run) for run in runs})
    with ExitStack() as held:
        for name in names:
            held.enter_context(reading_partition(config.workspace, name))
        return held.pop_all()


def _check_partitions(runs: Sequence[LoadedRun]) -> None:
    """Check that runs of a family have the same test patients, or are folds of one cross-validation.

    Raises:
        FlamesError: they were made on other partitions.
    """
    first = runs[0]
    for run in runs:
        same = run.partition.sha256 == first.partition.sha256
        folds = run.fold != first.fold and are_folds_of_one([run.partition.content, first.partition.content])
        if not same and not folds:
            what = "one partition" if run.fold is None else "one set of folds"
            raise FlamesError(
                f"run '{first.folder.name}' was made on partition '{first.partition.name}' and run "
                f"'{run.folder.name}' on '{run.partition.name}', expected runs of {what}; federate all again "
                "under another --run"
            )


def load_all(config: EvaluateConfig, name: str | None) -> Loaded:
    """Return run `name` (None: the newest), or all finished runs of a family, with models of rounds by the
    same rule.

    Raises:
        MissingArtifact, FlamesError: as `load_run`; or the runs of a family differ in more than their seed
            and fold.
    """
    known, folders = find_runs(config.workspace, name)
    if folders[0].name == known:
        return Loaded(known, [load_run(config, known)])
    done = {run.name: _last_round(run) for run in folders}
    most = max(done.values())
    left_out = {run: f"{rounds} of {most} rounds" for run, rounds in done.items() if rounds < most}
    left_out |= {run: "not started" for run in planned_names(known, folders) if run not in done}
    finished = [run for run in folders if run.name not in left_out]
    _check_alike(finished)
    runs = [load_run(config, run.name) for run in finished]
    _check_partitions(runs)
    return Loaded(known, _by_one_rule(config, runs), left_out)


def _by_one_rule(config: EvaluateConfig, runs: list[LoadedRun]) -> list[LoadedRun]:
    """Return the runs with the models of their last rounds if one of them has its last by default."""
    limited = next((run for run in runs if run.chosen.asked == "last"), None)
    if config.round is not None or limited is None:
        return runs
    last = config.model_copy(update={"round": "last"})
    why = f"the last round, as of run '{limited.folder.name}'"
    found = []
    for run in runs:
        if run.chosen.asked != "last":
            forced = load_run(last, run.folder.name)
            run = replace(forced, chosen=replace(forced.chosen, why=why))
        found.append(run)
    return found


def _last_round(run: RunFolder) -> int:
    return max((record["round"] for record in read_rounds(run.rounds)), default=0)


def _check_alike(runs: Iterable[RunFolder]) -> None:
    """Check that the runs of a family differ in their seed and fold only.

    Raises:
        FlamesError: another option differs.
    """
    first, *others = ((run.name, read_config(run.config).get("federate", {})) for run in runs)
    for name, options in others:
        keys = {*first[1], *options} - FREE_TO_CHANGE - {"seed", "run"}
        if differing := list_differences(first[1], options, sorted(keys)):
            raise FlamesError(
                f"run '{name}' was made with other options than '{first[0]}' ({'; '.join(differing)}), "
                "expected runs that differ in seed and fold only; evaluate one of them, or federate all "
                "again under another --run"
            )


def name_of(loaded: Loaded, config: EvaluateConfig, splits: Sequence[str]) -> str:
    """Return the name of the evaluation: that of the run or family, with what differs from the default."""
    if config.name:
        return config.name
    parts = [loaded.name]
    if config.weights:
        parts += [config.partition] if config.partition else []
    default = all(run.state.round == choose_round(run.rounds, None).round for run in loaded.runs)
    if config.round is not None and not default:
        parts.append(f"round-{config.round}" if isinstance(config.round, int) else str(config.round))
    if config.ensemble:
        parts.append("ensemble")
    elif config.on:
        parts += [config.model, "on", *config.on] if config.model else ["on", *config.on]
    elif len(splits) == 1 and not loaded.first.at_sites and not config.weights:
        parts.append(splits[0].replace("_", "-"))
    if config.cross_site:
        parts.append("cross-site")
    for option in ("threshold", "tta", "postprocess", "lesion_iou"):
        if (value := getattr(config, option)) != EvaluateConfig.model_fields[option].default:
            parts.append(f"{option.replace('_', '-')}-{value}")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))


def load_run(config: EvaluateConfig, name: str | None) -> LoadedRun:
    """Return run `name` (None: the newest) with the models of the round that `config` asks for.

    Raises:
        MissingArtifact: there is no such run, or it has no checkpoint.
        FlamesError: its partition does not exist any more, it was made with options that this release does
            not know, or it does not offer that round.
    """
    folder = find_run(config.workspace, name)
    tables = read_config(folder.config)
    facts = tables.get("run", {})
    partition = open_partition(config.workspace, find_run_partition(config.workspace, folder))
    made = check_section(FederateConfig, tables.get("federate", {}), where=f"{folder.config}: ")
    notes = require_run_plugins(folder, facts)
    if not ENGINES[made.engine].has_server:
        notes = [*notes, OBSERVER]
    options = options_for(facts.get("channels", 1), made.model_options)
    segmenter = Segmenter(
        made.model, options, config.device, config.precision, config.batch_size, made.training.norm
    )
    rounds = read_run_rounds(folder, made)
    chosen = choose_round(rounds, config.round)
    state = load_round(folder, chosen)
    weights = next(iter(state.server.values()), {})
    return LoadedRun(
        folder=folder,
        strategy=made.strategy,
        algorithm=get_algorithm(made.strategy),
        state=state,
        checkpoint=hash_file(index_path(folder.checkpoints, state.round)),
        segmenter=segmenter,
        chosen=replace(chosen, why="; ".join((chosen.why, *notes))),
        rounds=rounds,
        seed=made.seed,
        fold=read_member(folder).fold,
        partition=partition,
        at_sites=ENGINES[made.engine].clients_hold_their_data,
        privacy=_privacy_facts(made, folder, state),
        estimates_statistics=estimates_statistics(made.training, made.dp_noise is not None, weights),
        plugins=plugin_facts(facts),
    )


def _privacy_facts(made: FederateConfig, folder: RunFolder, state: State) -> dict[str, Any] | None:
    """Return the privacy cost of the rounds that led to `state`, from the line of the last round; None
    without privacy."""
    privacy = choose_privacy(made)
    if privacy is None:
        return None
    lines = (record for record in read_rounds(folder.rounds) if record["round"] == state.round)
    line = next(lines, {})
    accountant = line.get("accountant", OLDER_ACCOUNTANT if line else None)
    unit = {"unit": "client", "relation": "add or remove one", "accountant": accountant}
    return {
        "epsilon": line.get("epsilon"),
        **asdict(privacy),
        "rounds": state.round,
        "releases": state.releases,
        **unit,
    }


def has_stale_statistics(run: LoadedRun) -> bool:
    """Return whether the clients did not estimate the statistics of BatchNorm of this round's models."""
    return run.estimates_statistics and run.state.statistics is None
