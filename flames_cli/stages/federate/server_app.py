"""ServerApp that Flower's own engines load by name: it continues a run from its folder."""

from functools import partial

from flames_cli.config import FederateConfig, check_section
from flames_cli.fed.engines import ENGINES
from flames_cli.fed.federation import Federation
from flames_cli.fed.jobs import Job, make_job_server_app
from flames_cli.stages.federate.asynchronous_options import clock_of
from flames_cli.stages.federate.modality_files import open_modalities
from flames_cli.stages.federate.node_plugins import needed_packages
from flames_cli.stages.federate.planning import make_plan
from flames_cli.stages.federate.run_files import (
    ensure_noise_secret,
    make_client_saver,
    make_delivery,
    make_earlier_rounds,
    make_evaluation_saver,
    make_final_saver,
    make_round_saver,
    open_spool,
    read_initial,
)
from flames_cli.store.checkpoint import list_rounds, load_state
from flames_cli.store.runs import RunFolder, note_opening, read_config, truncate_rounds


def open_job(job: Job) -> Federation:
    """Return the federation that the job's run folder describes, after its newest round.

    `flames federate` has set damaged files aside before it started this job.

    Raises:
        FlamesError: the folder's configuration or checkpoint cannot be used.
    """
    run = RunFolder(job.run)
    tables = read_config(run.config)
    config = check_section(FederateConfig, tables["federate"], where=f"{run.config}: ")
    facts = tables["run"]
    resumed = load_state(run.checkpoints, mapped=True) if list_rounds(run.checkpoints) else None
    # A process that died before this one may have left the line of a round whose checkpoint is missing.
    truncate_rounds(run.rounds, resumed.round if resumed else 0)
    plan = make_plan(config, facts, read_initial(run, facts))
    real = ENGINES[config.engine].clients_hold_their_data
    # A finished run is opened again for clients without their model; its tests are not made again.
    # With secure aggregation no client sends scores of its own.
    has_tests = config.secure_aggregation or run.client_tests.is_file()
    tests = make_evaluation_saver(run) if real and not has_tests else None
    spool = open_spool(run)
    secret = ensure_noise_secret(run, plan)
    return Federation(
        plan=plan,
        save=make_round_saver(run, config, spool),
        shelf=spool,
        save_clients=make_client_saver(run, plan),
        save_final=make_final_saver(run, plan),
        earlier=make_earlier_rounds(run, config),
        by_modality=open_modalities(run, config, spool),
        resumed=resumed,
        save_evaluations=tests,
        delivery=make_delivery(run, config) if real else None,
        noise_secret=secret,
        clock=clock_of(config),
        note_opening=partial(note_opening, run.openings),
        plugins=needed_packages(config, plan.algorithm) if real else {},
    )


server_app = make_job_server_app(open_job)
