"""Shards → a run: rounds of local training and blending, a checkpoint and a line after each."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import FederateConfig
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.events import Noted, OnEvent, ignore
from flames_cli.fed.node import NodeConfig
from flames_cli.fed.plan import Plan
from flames_cli.fed.privacy_accountant import check_accountant
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.stages.federate.engines import Prepared, check_engine, run_engine
from flames_cli.stages.federate.estimate import Estimator
from flames_cli.stages.federate.images import Images, find_images
from flames_cli.stages.federate.nodes import node_configs
from flames_cli.stages.federate.planning import choose_algorithm, make_plan
from flames_cli.stages.federate.resuming import Resumed, options_as_run, resume, run_token
from flames_cli.stages.federate.run_files import read_initial, write_new_run
from flames_cli.store.files.locks import locked, reading_shards, rounds_of, wait_until_free
from flames_cli.store.runs import RunFolder, read_rounds, run_folder, write_config
from flames_cli.store.schema import CLIENT_TESTS, read_json

ORPHAN_SECONDS = 30.0
"""A run's process at the server has to end, after the command that started it was killed."""


@dataclass(frozen=True, slots=True)
class FederationResult:
    """A finished run."""

    run: str
    folder: Path
    resumed_from: int
    """The round after which this call took over; 0 for a new run."""
    records: list[dict[str, Any]]
    """The lines of rounds.jsonl."""
    tests: dict[str, Any] | None = None
    """What real nodes tell of their tests, as client-tests.json has it."""
    notes: list[str] = field(default_factory=list)
    """What was found damaged, and what became of it."""


def federate(config: FederateConfig, on_event: OnEvent = ignore) -> FederationResult:
    """Run a federation, or go on with it after its last whole round.

    Whichever engine runs it, the folder of the run holds the same files.

    Raises:
        MissingArtifact: there is no partition or deployment, or a shard is gone.
        FlamesError: unknown strategy, model or option; an engine that cannot run; no encoder weights; a run
            of that name with other options; no good report in a round.
    """
    with ExitStack() as held:
        if not ENGINES[config.engine].clients_hold_their_data:
            held.enter_context(reading_shards(config.workspace))
        images, nodes = _find_inputs(config)
        facts = {**_facts(config, images), "token": run_token(None)}
        folder = run_folder(config.workspace, config.run_name)
        # Here, before there is so much as a lock: a wrong option leaves the workspace as it was.
        plan = None if folder.path.exists() else make_plan(config, facts, None)
        # Held from here on: what follows may remove or rewrite the run.
        held.enter_context(locked(folder.path))
        wait_until_free(rounds_of(folder.path), ORPHAN_SECONDS)
        made, resumed = _prepare(config, folder, facts, plan, nodes)
        notes = resumed.notes if resumed else []
        for note in notes:
            on_event(Noted(note))
        if made:
            run_engine(made, Estimator(on_event, config.batch_size, config.local_epochs))
    tests = folder.client_tests
    return FederationResult(
        folder.name,
        folder.path,
        resumed.state.round if resumed else 0,
        read_rounds(folder.rounds),
        read_json(tests, CLIENT_TESTS) if tests.is_file() else None,
        notes,
    )


def _find_inputs(config: FederateConfig) -> tuple[Images, list[NodeConfig]]:
    """The images, and the nodes on this machine: what the options forbid is found before a run is touched."""
    algorithm = choose_algorithm(config)
    images = find_images(config)
    check_engine(config, algorithm.pooled)
    if algorithm.privacy:
        check_accountant()
    if not images.partition or ENGINES[config.engine].clients_hold_their_data:
        return images, []
    client_state = run_folder(config.workspace, config.run_name).clients
    return images, node_configs(config, algorithm, images.partition, client_state)


def _prepare(
    config: FederateConfig, run: RunFolder, facts: dict[str, Any], plan: Plan | None, nodes: list[NodeConfig]
) -> tuple[Prepared | None, Resumed | None]:
    """What is to be run, its folder made or mended (None: nothing is left), and what it goes on from."""
    options = options_as_run(config)
    resumed = resume(run, options, facts, config)
    untested = ENGINES[config.engine].clients_hold_their_data and not run.client_tests.is_file()
    if resumed and resumed.state.round >= config.rounds and not untested:
        return None, resumed
    if resumed:
        facts = {**resumed.facts, **facts, "token": run_token(resumed)}
        plan = make_plan(config, facts, read_initial(run, facts))
        write_config(run.config, {"federate": options, "run": facts})
    else:
        # The plan first: a wrong option must not cost the run that --fresh replaces.
        plan = plan or make_plan(config, facts, None)
        write_new_run(run, config, options, plan, facts)
    run.client_tests.unlink(missing_ok=True)
    return Prepared(config, run, plan, resumed.state if resumed else None, nodes), resumed


def _facts(config: FederateConfig, images: Images) -> dict[str, Any]:
    """What a run's config.toml says beside its options."""
    device = pick_device(config.device)
    return {
        "flames": __version__,
        "partition_sha256": images.sha256,
        "size": images.size,
        "channels": images.channels,
        "device": device.type,
        "precision": pick_precision(config.precision, device, config.model),
    }
