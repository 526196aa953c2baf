"""A planned run on one of the engines: inline, ray or superlink. All write the same files."""

from dataclasses import dataclass
from functools import partial

from flames_cli.config import FederateConfig
from flames_cli.core.federated.algorithm import Algorithm
from flames_cli.core.federated.reports import State
from flames_cli.errors import FlamesError
from flames_cli.fed.client import make_client_app
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.engines.inline import FIRST_NODE, make_contexts, run_inline
from flames_cli.fed.engines.ray import Resources, check_ray, run_ray
from flames_cli.fed.engines.several_devices import run_on_devices
from flames_cli.fed.engines.superlink import require_superlink, run_at_server
from flames_cli.fed.events import Noted, OnEvent
from flames_cli.fed.federation import Federation
from flames_cli.fed.jobs import Job
from flames_cli.fed.node import NodeConfig, NodeSettings
from flames_cli.fed.participation import Participation
from flames_cli.fed.plan import Plan
from flames_cli.fed.server import make_server_app
from flames_cli.fed.submitted_runs import read_submitted
from flames_cli.flower.flwr_command import find_superlink
from flames_cli.learn.devices import count_gpus, use_gpu
from flames_cli.stages.deploy.foreground import interrupted_by_signals
from flames_cli.stages.deploy.run_status import describe_runs
from flames_cli.stages.federate.asynchronous_options import clock_of
from flames_cli.stages.federate.busy_server import describe_other_runs
from flames_cli.stages.federate.modality_files import open_modalities
from flames_cli.stages.federate.node_plugins import require_allowed
from flames_cli.stages.federate.run_files import (
    ensure_noise_secret,
    make_client_saver,
    make_earlier_rounds,
    make_final_saver,
    make_round_saver,
    open_spool,
)
from flames_cli.stages.federate.secure_options import fewest_clients
from flames_cli.store.deployment.folders import read_deployment
from flames_cli.store.runs import RunFolder, note_opening, write_nodes

RAY_WAIT_SECONDS = 120.0
"""Seconds that ray gets to start its simulated nodes."""

SUPERLINK_WAIT_SECONDS = 300.0
"""Seconds to wait for real nodes, unless the user sets another time."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All inputs of an engine."""

    config: FederateConfig
    run: RunFolder
    plan: Plan
    resumed: State | None
    nodes: list[NodeConfig]
    """Nodes on this machine; empty if the nodes are elsewhere."""


def check_engine(config: FederateConfig, algorithm: Algorithm) -> None:
    """Check that the engine can run, before any file is written.

    Raises:
        MissingArtifact: there is no deployment.
        FlamesError: ray is not installed, no server answers, or the strategy pools data that are at other
            nodes, or plug-ins that the deployment does not allow.
    """
    if ENGINES[config.engine].needs_ray:
        check_ray(config.cpus_per_client)
    if ENGINES[config.engine].clients_hold_their_data:
        if algorithm.pooled:
            raise FlamesError(
                f"strategy {config.strategy} pools the clients' data, which real nodes never send; "
                "take another --strategy, or --engine inline if the data are on this machine"
            )
        if config.clients:
            raise FlamesError(
                f"got --clients {','.join(config.clients)} with --engine {config.engine}, whose nodes decide "
                "themselves to take part; leave --clients out, and start only the nodes of these clients"
            )
        deployment = read_deployment(config.deployment)
        require_allowed(config, algorithm, deployment)
        require_superlink(deployment.flower_home, deployment.port, deployment.ca_certificate)


def run_engine(made: Prepared, on_event: OnEvent) -> None:
    """Run the prepared federation to its last round.

    Raises:
        FlamesError: an error that ended the run.
    """
    run = {
        "inline": _run_inline,
        "ray": _run_ray,
        "superlink": _run_superlink,
        "swarm": _run_inline,
    }[made.config.engine]
    with interrupted_by_signals():
        run(made, on_event)


def _run_inline(made: Prepared, on_event: OnEvent) -> None:
    spool = open_spool(made.run)
    n_gpus = min(count_gpus(), len(made.nodes)) if made.config.device in ("auto", "cuda") else 0
    # Reports of several devices are held until it is their turn.
    in_flight = 2 * n_gpus if n_gpus > 1 else None
    participation = _participation(made, len(made.nodes), 0.0, strict=True, in_flight=in_flight)
    secret = ensure_noise_secret(made.run, made.plan)
    federation = Federation(
        plan=made.plan,
        save=make_round_saver(made.run, made.config, spool),
        shelf=spool,
        save_clients=make_client_saver(made.run, made.plan),
        save_final=make_final_saver(made.run, made.plan),
        earlier=make_earlier_rounds(made.run, made.config),
        by_modality=open_modalities(made.run, made.config, spool),
        resumed=made.resumed,
        on_event=on_event,
        participation=participation,
        noise_secret=secret,
        clock=clock_of(made.config),
        note_opening=partial(note_opening, made.run.openings),
    )
    contexts = make_contexts(dict(enumerate(made.nodes, FIRST_NODE)))
    server = make_server_app(lambda _: federation)
    if n_gpus > 1:
        run_on_devices(server, make_client_app, contexts, on_event, n_gpus, use_gpu)
    else:
        run_inline(server, make_client_app(on_event), contexts)


def _run_ray(made: Prepared, on_event: OnEvent) -> None:
    resources = Resources(
        len(made.nodes),
        made.config.cpus_per_client,
        made.config.clients_per_gpu,
        0 if made.config.device == "cpu" else count_gpus(),
    )
    # Each simulated client has its own process and its own cache.
    share = NodeSettings(()).cache_share / resources.simultaneous
    write_nodes(made.run.nodes, [{**node, "cache-share": share} for node in made.nodes])
    participation = _participation(
        made, len(made.nodes), RAY_WAIT_SECONDS, strict=True, in_flight=2 * resources.simultaneous
    )
    job = Job(made.run.path, participation)
    try:
        run_ray(job, made.run.nodes, resources, on_event, made.run.engine_log)
    finally:
        made.run.nodes.unlink(missing_ok=True)


def _run_superlink(made: Prepared, on_event: OnEvent) -> None:
    deployment = read_deployment(made.config.deployment)
    wait = made.config.wait_for_clients
    participation = _participation(
        made, len(deployment.sites), SUPERLINK_WAIT_SECONDS if wait is None else wait, strict=False
    )
    job = Job(made.run.path, participation)
    last_round = made.resumed.round if made.resumed else 0
    server = (deployment.flower_home, deployment.port, deployment.ca_certificate)
    if cli := find_superlink(*server):
        runs = describe_runs(cli.runs(), read_submitted(deployment.flower_home))
        for note in describe_other_runs(runs, made.run.name, participation.join_timeout_s):
            on_event(Noted(note))
    run_at_server(lambda: find_superlink(*server), job, last_round, on_event, deployment.log)


def _participation(
    made: Prepared, expected: int, wait: float, strict: bool, in_flight: int | None = None
) -> Participation:
    config = made.config
    return Participation(
        min_clients=fewest_clients(config, made.plan.algorithm),
        min_clients_by_modality=config.min_clients_by_modality,
        expected_nodes=expected,
        join_timeout_s=wait,
        all_must_join=strict,
        round_timeout_s=config.round_timeout,
        in_flight=in_flight,
    )
