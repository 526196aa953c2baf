"""flames-adaptive over real nodes, each with its own shard, gives the models of a run in one process."""

import pytest

from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from tests.support.asserts import assert_same_state, without_timings
from tests.support.cluster import SECONDS, make_cluster
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long]


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory):
    yield from make_cluster(
        workspace(), tmp_path_factory.mktemp("cluster"), {"brats": 2}, ("brats-1", "brats-2", "busi")
    )


def test_every_node_chooses_its_model_as_in_one_process(cluster):
    options = {"strategy": "flames-adaptive", "wire_dtype": "int8", "rounds": 2}
    engine = {
        "engine": "superlink",
        "deployment": cluster.deployment.path,
        "wait_for_clients": SECONDS,
    }
    real = federate(federate_config(cluster.workspace, run="real", **options, **engine))
    inline = federate(federate_config(cluster.workspace, run="inline", **options))

    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, inline)))
    assert without_timings(real.records) == without_timings(inline.records)
    assert (real.final, real.chosen) == (inline.final, inline.chosen)
    picks = {one["client"]: one.get("pick") for one in real.final["clients"]}
    assert all([picks["brats-1"], picks["brats-2"]])
    assert picks["busi"] is None
    assert {one["client"] for one in real.tests["clients"]} | set(real.tests["silent"]) == set(picks)
