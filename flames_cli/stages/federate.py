"""Shards → a run: rounds of local training and blending, a checkpoint and a line after each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flames_cli import __version__
from flames_cli.config import FederateConfig
from flames_cli.fed.events import OnEvent, ignore
from flames_cli.learn.devices import pick_device, pick_precision
from flames_cli.stages.estimate import Estimator
from flames_cli.stages.federating.engines import Prepared, check_engine, run_engine
from flames_cli.stages.federating.images import Images, find_images
from flames_cli.stages.federating.keeping import keep_initial, read_initial
from flames_cli.stages.federating.nodes import node_configs
from flames_cli.stages.federating.planning import choose_algorithm, make_plan
from flames_cli.stages.federating.resuming import options_as_run, resume, run_token
from flames_cli.store.locks import locked_within
from flames_cli.store.manifest import read_json
from flames_cli.store.runs import read_rounds, run_folder, write_config
from flames_cli.store.schema import CLIENT_TESTS

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


def federate(config: FederateConfig, on_event: OnEvent = ignore) -> FederationResult:
    """Run a federation, or go on with it after its last whole round.

    Whichever engine runs it, the folder of the run holds the same files.

    Raises:
        MissingArtifact: there is no partition or deployment, or a shard is gone.
        FlamesError: unknown strategy, model or option; an engine that cannot run; no encoder weights; a run
            of that name with other options; no good report in a round.
    """
    algorithm = choose_algorithm(config)
    images = find_images(config)
    check_engine(config, algorithm.pooled)
    run = run_folder(config.workspace, config.run_name)
    nodes = []
    if images.partition and config.engine != "superlink":
        nodes = node_configs(config, algorithm, images.partition, run.clients)
    options, facts = options_as_run(config), _facts(config, images)
    if run.path.exists():
        with locked_within(run.path, ORPHAN_SECONDS if config.engine == "superlink" else 0.0):
            """Nobody else is at it: what follows may remove or rewrite the run."""
    resumed = resume(run, options, facts, config)
    untested = config.engine == "superlink" and not run.client_tests.is_file()
    if resumed is None or resumed.round < config.rounds or untested:
        facts["token"] = run_token(run, resumed)
        plan = make_plan(config, facts, read_initial(run) if resumed else None)
        if resumed is None:
            # Here, not earlier: a wrong option must not cost the run that --fresh replaces.
            run.remove()
        write_config(run.config, {"federate": options, "run": facts})
        if resumed is None:
            keep_initial(run, config, plan.initial)
        run.client_tests.unlink(missing_ok=True)
        watch = Estimator(on_event, config.batch_size, config.local_epochs)
        run_engine(Prepared(config, run, plan, resumed, nodes), watch)
    tests = read_json(run.client_tests, CLIENT_TESTS.name) if run.client_tests.is_file() else None
    return FederationResult(
        run.name, run.path, resumed.round if resumed else 0, read_rounds(run.rounds), tests
    )


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
