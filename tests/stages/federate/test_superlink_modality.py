"""Rounds by modality between real nodes, of which that of MRI is slow, over TLS on this machine."""

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.fed.events import ModalityDone, Waiting
from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import modality_folder, run_folder
from tests.support.asserts import assert_same_state, without_timings
from tests.support.cluster import SECONDS, SITES, start_cluster
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long]

SLOW_SECONDS = 15.0
"""Time by which each training of the node for MRI takes longer."""


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory):
    root, made = tmp_path_factory.mktemp("cluster"), workspace()
    partition(PartitionConfig(workspace=made, datasets=SITES, split={"brats": 1}, overwrite=True))
    deployment = init_deployment(root / "deployment", "localhost", free_port(), list(SITES), 30)
    yield from start_cluster(made, root, deployment, SITES, {"brats": {"SLOW": str(SLOW_SECONDS)}})


@pytest.mark.parametrize("strategy", ["flames", "fedavg-modality"])
def test_real_nodes_give_what_rounds_in_step_give_and_ultrasound_does_not_wait_for_mri(cluster, strategy):
    options = {"engine": "superlink", "deployment": cluster.deployment.path, "wait_for_clients": SECONDS}
    events, run, killed = [], f"real-{strategy}", []

    def watch(event):
        events.append(event)
        ahead = isinstance(event, ModalityDone) and (event.modality, event.record["round"]) == ("US", 1)
        if ahead and strategy == "flames" and not killed:
            killed.append(cluster.server_app())
            killed[0].kill()  # while ultrasound is ahead

    config = federate_config(cluster.workspace, run=run, strategy=strategy, rounds_by="modality", **options)
    real = federate(config, watch)
    done = [(one.modality, one.record["round"]) for one in events if isinstance(one, ModalityDone)]
    assert done.index(("US", 2)) < done.index(("MRI", 2))
    assert done.index(("US", 1)) < done.index(("MRI", 1))
    lost = [one for one in events if isinstance(one, Waiting) and "was lost" in one.missing]
    assert len(lost) == len(killed)
    inline = federate(federate_config(cluster.workspace, run=f"inline-{strategy}", strategy=strategy))
    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, inline)))
    assert without_timings(real.records) == without_timings(inline.records)
    assert (real.final, real.chosen) == (inline.final, inline.chosen)
    assert real.models_kept == {"brats": True, "busi": True}
    newest = load_state(modality_folder(run_folder(cluster.workspace, run), "US").checkpoints)
    assert (newest.round, list(newest.server)) == (2, ["US"])
