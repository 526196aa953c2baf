"""The example package over three real nodes, with TLS and keys; one site has it late."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flames_cli.config import PartitionConfig, PreprocessConfig
from flames_cli.fed.events import Event, NodeRejected
from flames_cli.flower.processes import free_port
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.stages.preprocess.stage import preprocess
from flames_cli.store.checkpoint import load_state
from flames_cli.store.deployment.folders import write_site
from flames_cli.store.models import read_model
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.cluster import SECONDS, Cluster, start_cluster, wait_for
from tests.support.command_line import ROOT
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long, pytest.mark.usefixtures("one_thread")]

SITES = ("isic2018-1", "isic2018-2", "isic2018-3")
PARTS = {
    "strategy": "fair",
    "model": "dilated-net",
    "model_options": {"channels": 4, "blocks": 2},
    "loss": "focal-tversky",
    "augmentations": ("speckle",),
}


@pytest.fixture
def workspace(example, isic, tmp_path) -> Path:
    root = tmp_path / "workspace"
    options = {"raw": {"isic2018": isic}, "size": 32, "cache": False, "skip_bad": True}
    preprocess(PreprocessConfig(workspace=root, **options), "isic2018")
    partition(PartitionConfig(workspace=root, split={"isic2018": 3}))
    return root


@pytest.fixture
def other_version(built, tmp_path) -> Path:
    """The same package, which calls itself 0.2.0."""
    folder = Path(shutil.copytree(built, tmp_path / "other"))
    (info,) = folder.glob("flames_example-*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    (info / "METADATA").write_text(metadata.replace("Version: 0.1.0", "Version: 0.2.0"), encoding="utf-8")
    info.rename(folder / "flames_example-0.2.0.dist-info")
    return folder


@pytest.fixture
def cluster(workspace, tmp_path) -> Iterator[Cluster]:
    """A server that has the package, like the first two of its three sites."""
    plugins = ["flames-example"]
    deployment = init_deployment(tmp_path / "deployment", "localhost", free_port(), SITES, 30, plugins)
    yield from start_cluster(workspace, tmp_path, deployment, SITES[:2])


def wait_until_online(cluster: Cluster, name: str) -> None:
    wait_for(lambda: "connected to localhost" in cluster.said(name), name)


def run(cluster: Cluster, name: str, seconds: float, rounds: int = 1) -> tuple[Any, dict[str, str]]:
    """Return a run's result, and the reason of each node that could not join."""
    rejected = {}

    def watch(event: Event) -> None:
        if isinstance(event, NodeRejected):
            rejected[event.node] = event.reason

    options = {"engine": "superlink", "deployment": cluster.deployment.path, "wait_for_clients": seconds}
    config = federate_config(cluster.workspace, run=name, rounds=rounds, **PARTS, **options)
    return federate(config, watch), rejected


def status(cluster: Cluster) -> Any:
    command = ["deploy", "status", "--json", "--deployment", str(cluster.deployment.path)]
    found = subprocess.run([sys.executable, "-m", "flames_cli", *command], capture_output=True, check=True)
    return json.loads(found.stdout)


def test_a_site_joins_with_the_version_of_the_run_alone(cluster, other_version):
    third = SITES[2]
    site = cluster.deployment.site(third)
    for name in SITES[:2]:
        wait_until_online(cluster, name)

    cluster.start_node(third, PYTHONPATH=str(ROOT))
    wait_until_online(cluster, third)
    assert "is allowed, and is not installed here: a run that needs it rejects this site; " in cluster.said(
        third
    )
    without, rejected = run(cluster, "without", seconds=20)
    assert without.records[0]["accepted"] == list(SITES[:2])
    assert rejected == {f"client {third}": rejected[f"client {third}"]}
    assert "flames-example and has not installed the allowed version" in rejected[f"client {third}"]
    assert status(cluster)["runs"][0]["rejected"] == rejected

    write_site(replace(site, plugins=("flames-example==0.2.0",)))
    cluster.start_node(third, PYTHONPATH=os.pathsep.join([str(other_version), str(ROOT)]))
    wait_until_online(cluster, third)
    other, rejected = run(cluster, "other", seconds=20)
    assert other.records[0]["accepted"] == list(SITES[:2])
    assert "it has version 0.2.0 of plug-in package flames-example, and this run needs 0.1.0" in str(rejected)

    write_site(site)
    cluster.start_node(third)
    real, rejected = run(cluster, "real", seconds=SECONDS, rounds=2)
    assert rejected == {}
    inline = federate(federate_config(cluster.workspace, run="inline", **PARTS))
    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, inline)))
    assert without_timings(real.records) == without_timings(inline.records)
    state = load_state(real.folder / "checkpoints", real.chosen.round)
    for name in SITES:
        _, weights = read_model(cluster.deployment.site(name).models / "real")
        assert_same(weights, state.final_model_for(name, "DERM", "DERM"))
