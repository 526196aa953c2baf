"""Three real nodes of one modality, of which one is slow: the others do not wait for it."""

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import load_state
from flames_cli.store.runs import modality_folder, run_folder
from tests.support.cluster import SECONDS, start_cluster
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long]

NODES = ("brats-1", "brats-2", "brats-3")
SLOW_SECONDS = 6.0


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory):
    root, made = tmp_path_factory.mktemp("cluster"), workspace()
    partition(PartitionConfig(workspace=made, datasets=("brats",), split={"brats": 3}, overwrite=True))
    deployment = init_deployment(root / "deployment", "localhost", free_port(), list(NODES), 30)
    taps = {"brats-3": {"SLOW": str(SLOW_SECONDS)}}
    yield from start_cluster(made, root, deployment, NODES, taps)


def test_fast_nodes_make_versions_while_a_slow_one_trains(cluster):
    config = federate_config(
        cluster.workspace,
        run="real",
        rounds=6,
        asynchronous=True,
        engine="superlink",
        deployment=cluster.deployment.path,
        wait_for_clients=SECONDS,
    )
    result = federate(config)
    assert [record["round"] for record in result.records] == [1, 2, 3, 4, 5, 6]
    times = [record["clock_seconds"] for record in result.records]
    assert times == sorted(times)
    trainings: dict[str, int] = {}
    for record in result.records:
        for one in record["clients"]:
            trainings[one["client"]] = one["training"]
            assert len(one["staleness"]) >= 1
    assert {"brats-1", "brats-2"} <= set(trainings)
    assert sum(trainings[name] for name in ("brats-1", "brats-2")) > 3 * trainings.get("brats-3", 1)
    # The slow node was asked once or twice, and takes part in what follows the last version.
    assert {one["client"] for one in result.final["clients"]} == set(NODES)
    assert {one["client"] for one in result.tests["clients"]} | set(result.tests["silent"]) == set(NODES)
    state = load_state(modality_folder(run_folder(config.workspace, "real"), "MRI").checkpoints)
    assert state.progress.on_the_way == {}
    assert {"brats-1", "brats-2"} <= set(state.progress.newest)
    assert state.progress.seconds == pytest.approx(times[-1], abs=0.001)
