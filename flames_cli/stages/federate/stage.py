"""`flames federate`: shards → a run, with rounds of local training and blending, and a checkpoint and a line
after each."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import FederateConfig
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.events import Event, Noted, OnEvent, ignore
from flames_cli.fed.node import NodeConfig
from flames_cli.fed.plan import Plan
from flames_cli.fed.privacy_accountant import check_accountant
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.learn.hardware import describe_machine
from flames_cli.stages.federate.curves import draw_curves, draw_during_rounds
from flames_cli.stages.federate.engines import Prepared, check_engine, run_engine
from flames_cli.stages.federate.estimate import Estimator
from flames_cli.stages.federate.inputs import Images, clients_of_run, find_images, node_configs
from flames_cli.stages.federate.planning import choose_algorithm, make_plan
from flames_cli.stages.federate.resuming import Resumed, options_as_run, resume, run_token
from flames_cli.stages.federate.run_files import (
    describe_aside,
    has_missing_models,
    read_initial,
    write_new_run,
)
from flames_cli.stages.federate.run_log import logged
from flames_cli.stages.federate.secure_options import check_clients
from flames_cli.stages.federate.start import Start, read_start
from flames_cli.stages.federate.start_warnings import warn_at_start
from flames_cli.stages.federate.swarm import check_swarm
from flames_cli.stages.federate.tracking import tracked
from flames_cli.stages.federate.validation import Validation, read_validation
from flames_cli.stages.partition.notes import describe_lost_sites
from flames_cli.stages.rounds import ChosenRound, choose_round, read_run_rounds
from flames_cli.stages.run_plugins import PLUGINS, plugins_of, require_packages, require_run_plugins
from flames_cli.store.clients import read_clients
from flames_cli.store.files.aside import set_aside
from flames_cli.store.files.locks import locked, reading_partition, rounds_of, wait_until_free
from flames_cli.store.runs import (
    FOLDS,
    MACHINES,
    PARTITION_SHA256,
    SEEDS,
    RunFolder,
    read_final_models,
    read_rounds,
    run_folder,
    write_config,
)
from flames_cli.store.schema import CLIENT_TESTS, read_json
from flames_cli.trackers import check_trackers

ORPHAN_SECONDS = 30.0
"""Seconds that a run's process at the server has to end after the command that started it was killed."""


@dataclass(frozen=True, slots=True)
class FederationResult:
    """Result of a finished run."""

    run: str
    folder: Path
    resumed_from: int
    """The round after which this call continued; 0 for a new run."""
    records: list[dict[str, Any]]
    """Lines of rounds.jsonl."""
    tests: dict[str, Any] | None = None
    """Reports of real nodes about their test sets, as in client-tests.json."""
    models_kept: dict[str, bool] | None = None
    """True for each real node that has stored its own model, by client; None with other engines."""
    notes: list[str] = field(default_factory=list)
    """Damage that was found, with its repair, and warnings, in their order."""
    final: dict[str, Any] | None = None
    """Reports of the clients on the final models, as in final-models.json; None: there is none."""
    chosen: ChosenRound | None = None
    """The round that `flames evaluate` takes."""
    validation: Validation | None = None
    """Validation of the models in the best and the last round; None: there are no validation patients."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Seeds and folds of a family of runs, recorded with each of them; both empty for a run of its own."""

    seeds: tuple[int, ...] = ()
    folds: tuple[int, ...] = ()

    @property
    def options(self) -> str:
        """Options of `flames federate` that make such a family."""
        return " and ".join([*(["--folds"] if self.folds else []), *(["--seeds"] if self.seeds else [])])

    def as_facts(self) -> dict[str, Any]:
        """Return the entries for config.toml."""
        return {key: list(own) for key, own in ((SEEDS, self.seeds), (FOLDS, self.folds)) if own}


ALONE = Planned()


def federate(
    config: FederateConfig, on_event: OnEvent = ignore, planned: Planned = ALONE
) -> FederationResult:
    """Run a federation, or continue it after its last complete round.

    Every engine writes the same files in the folder of the run. With `fresh`, an earlier run of its name is
    renamed.

    Raises:
        MissingArtifact: there is no partition or deployment, or a shard is missing.
        FlamesError: unknown strategy, model or option; an engine that cannot run; missing encoder weights; a
            run of that name with other options; no valid report in a round.
    """
    notes: list[str] = []
    folder = run_folder(config.workspace, config.run_name)
    if folder.config.is_file() and not config.fresh:
        require_run_plugins(folder)  # a message on a missing plug-in says more than one on an unknown name
    with ExitStack() as held:
        if not ENGINES[config.engine].clients_hold_their_data:
            held.enter_context(reading_partition(config.workspace, config.partition))
        images, nodes = _find_inputs(config)
        facts = {**make_facts(config, images), **planned.as_facts(), "token": run_token(None)}
        # Before any lock: a wrong option leaves the workspace unchanged.
        new = None if folder.path.exists() else _plan_new(config, images, facts)
        # Locked from here on: the next steps may delete or rewrite the run.
        held.enter_context(locked(folder.path))
        wait_until_free(rounds_of(folder.path), ORPHAN_SECONDS)
        listen = _collect_notes(notes, on_event)
        made, resumed = _prepare(config, folder, images, facts, new, nodes, listen)
        for note in resumed.notes if resumed else ():
            listen(Noted(note))
        if made or notes:
            after = resumed.state.round if resumed else 0
            listen = held.enter_context(logged(folder, config, listen, after, tuple(notes)))
        with tracked(folder, config, listen) as fed_trackers:
            if made:
                lost = describe_lost_sites(
                    images.partition.content.sites_left_out if images.partition else {}
                )
                listener = draw_during_rounds(folder, config, warn_at_start(made.plan, fed_trackers, lost))
                run_engine(made, Estimator(listener, made.plan.steps_a_round, config.fraction))
        if made or not folder.curves.is_file():
            draw_curves(folder, config, listen)
    tests = folder.client_tests
    lines = read_rounds(folder.rounds)
    return FederationResult(
        run=folder.name,
        folder=folder.path,
        resumed_from=resumed.state.round if resumed else 0,
        records=lines,
        final=read_final_models(folder),
        chosen=choose_round(read_run_rounds(folder, config), None),
        validation=read_validation(folder, config, lines),
        tests=read_json(tests, CLIENT_TESTS) if tests.is_file() else None,
        models_kept=_find_kept(folder, config),
        notes=notes,
    )


def _find_kept(run: RunFolder, config: FederateConfig) -> dict[str, bool] | None:
    if not ENGINES[config.engine].clients_hold_their_data:
        return None
    return {one.client: one.kept is not None for one in read_clients(run.joined_clients)}


def check_inputs(config: FederateConfig) -> None:
    """Check that a run with these options can begin, without a change of any file; raises as `federate`."""
    images, _ = _find_inputs(config)
    _plan_new(config, images, make_facts(config, images))


@dataclass(frozen=True, slots=True)
class _New:
    """Plan of a run that does not exist yet, and the weights from which it starts."""

    plan: Plan
    start: Start


def _plan_new(config: FederateConfig, images: Images, facts: dict[str, Any]) -> _New:
    """Return the plan of a new run; raises as `make_plan` and `read_start`."""
    start = read_start(config, images)
    return _New(make_plan(config, facts, start.initial), start)


def set_run_aside(run: RunFolder) -> str:
    """Rename an earlier run, and return a description of its new name.

    Raises:
        FlamesError: a process works on the run.
    """
    with locked(run.path):
        wait_until_free(rounds_of(run.path), ORPHAN_SECONDS)
        aside = set_aside(run.path)
    return describe_aside(run.name, aside.name) if aside else ""


def _collect_notes(notes: list[str], on_event: OnEvent) -> OnEvent:
    """Return a listener that passes events on, and adds the text of each note to `notes`."""

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.note)
        on_event(event)

    return listen


def _find_inputs(config: FederateConfig) -> tuple[Images, list[NodeConfig]]:
    """Return the images, and the nodes on this machine; wrong options raise here, before a run is touched."""
    algorithm = choose_algorithm(config)
    check_trackers(config.track)
    if ENGINES[config.engine].clients_hold_their_data:
        require_packages(config)
    images = find_images(config)
    check_engine(config, algorithm)
    there = [] if images.partition is None else clients_of_run(config, images.partition)
    check_swarm(config, algorithm, [(one.name, one.modality) for one in there])
    if algorithm.privacy:
        check_accountant()
    if not images.partition or ENGINES[config.engine].clients_hold_their_data:
        return images, []
    check_clients(
        config, algorithm, [(one.name, one.modality) for one in clients_of_run(config, images.partition)]
    )
    client_state = run_folder(config.workspace, config.run_name).clients
    return images, node_configs(config, algorithm, images.partition, client_state)


def _prepare(
    config: FederateConfig,
    run: RunFolder,
    images: Images,
    facts: dict[str, Any],
    new: _New | None,
    nodes: list[NodeConfig],
    on_event: OnEvent,
) -> tuple[Prepared | None, Resumed | None]:
    """Return the inputs of the engine, with the run's folder made or repaired (None: no round is left), and
    the state from which it continues."""
    options = options_as_run(config)
    resumed = resume(run, config, facts)
    finished = bool(resumed and resumed.state.round >= config.rounds and resumed.state.statistics is not None)
    if resumed and finished and not _has_work_left(run, config, resumed):
        return None, resumed
    if resumed:
        earlier = [one for one in resumed.facts.get(MACHINES, []) if one not in facts[MACHINES]]
        machines = {MACHINES: [*earlier, *facts[MACHINES]]}
        facts = {**resumed.facts, **facts, **machines, "token": run_token(resumed)}
        plan = make_plan(config, facts, read_initial(run, facts))
        write_config(run.config, {"federate": options, "run": facts})
    else:
        # The plan first: a wrong option must not rename the run that --fresh replaces.
        new = new or _plan_new(config, images, facts)
        plan = new.plan
        if aside := write_new_run(run, config, options, plan, {**facts, **new.start.facts}):
            on_event(Noted(describe_aside(run.name, aside)))
        for note in new.start.notes:
            on_event(Noted(note))
    if not finished:
        run.client_tests.unlink(missing_ok=True)
    return Prepared(config, run, plan, resumed.state if resumed else None, nodes), resumed


def _has_work_left(run: RunFolder, config: FederateConfig, resumed: Resumed) -> bool:
    """Return whether real nodes of a finished run have not tested their models, or do not have them."""
    if not ENGINES[config.engine].clients_hold_their_data:
        return False
    has_tests = config.secure_aggregation or run.client_tests.is_file()
    return not has_tests or has_missing_models(run, config, resumed.state)


def make_facts(config: FederateConfig, images: Images) -> dict[str, Any]:
    """Return the facts of a run for its config.toml."""
    device, plugins = pick_device(config.device), plugins_of(config)
    return {
        "flames": __version__,
        PARTITION_SHA256: images.partition.sha256 if images.partition else None,
        "size": images.size,
        "channels": images.channels,
        "device": device.type,
        "precision": pick_precision(config.precision, device, config.model),
        MACHINES: [describe_machine()],
        **({PLUGINS: [one.fact for one in plugins]} if plugins else {}),
    }
