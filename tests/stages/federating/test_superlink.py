"""A federation of real nodes: the commands as hospitals type them, over TLS on this machine's loopback."""

import json
import os
import subprocess
import sys
import time

import pytest

from flames_cli.config import PartitionConfig
from flames_cli.fed.deployed.processes import free_port
from flames_cli.fed.events import ClientJoined, RoundDone
from flames_cli.stages.deploying.init import init_deployment
from flames_cli.stages.federate import federate
from flames_cli.stages.partition import partition
from flames_cli.store.checkpoint import load_state

pytestmark = [pytest.mark.federated, pytest.mark.slow]

SECONDS = 90.0
SITES = ("brats", "busi", "otu2d")
"""Two of ultrasound and one of MRI."""


@pytest.fixture
def three(workspace):
    root = workspace()
    partition(PartitionConfig(workspace=root, split={"brats": 1}, overwrite=True))
    return root


@pytest.fixture
def run_flames(tmp_path):
    """run_flames("deploy", "server", …): start that command; all end with the test, as by Ctrl-C."""
    processes = []

    def run(*command):
        output = tmp_path / f"{len(processes)}.out"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "flames_cli", *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            )
        processes.append(process)
        return output

    yield run
    for process in processes:
        process.terminate()
    assert [process.wait(30) for process in processes] == [0] * len(processes)


def wait_for(output, words):
    deadline = time.monotonic() + SECONDS
    while words not in (said := output.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline, f"no '{words}' in: {said}"
        time.sleep(0.1)


def test_three_authenticated_nodes_train_flames_over_two_modalities_as_inline_does(
    three, quick, run_flames, tmp_path, assert_same_state, timeless
):
    deployment, shards, events = tmp_path / "deployment", three / "shards", []
    init_deployment(deployment, "localhost", free_port(), SITES, 30)
    server = run_flames("deploy", "server", "--deployment", deployment, "--bind", "127.0.0.1")
    nodes = [
        run_flames("deploy", "node", "--site", deployment / "sites" / name, "--shard", shards / f"{name}.h5")
        for name in SITES
    ]
    wait_for(server, "ready at localhost")
    real = federate(
        quick(three, run="real", engine="superlink", deployment=deployment, wait_for_clients=SECONDS),
        events.append,
    )
    inline = federate(quick(three, run="inline"))
    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, inline)))
    assert timeless(real.records) == timeless(inline.records)
    assert {event.client: event.modality for event in events if isinstance(event, ClientJoined)} == {
        "brats": "MRI",
        "busi": "US",
        "otu2d": "US",
    }
    assert [event.record for event in events if isinstance(event, RoundDone)] == real.records
    assert real.tests == json.loads((real.folder / "client-tests.json").read_text(encoding="utf-8"))
    told = {client["client"] for client in real.tests["clients"]}
    assert told | set(real.tests["silent"]) == set(SITES)
    assert {reason[:21] for reason in real.tests["silent"].values()} <= {"its test set is small"}
    for output in nodes:
        wait_for(output, "round 2: answered")
    status = subprocess.run(
        [sys.executable, "-m", "flames_cli", "deploy", "status", "--deployment", str(deployment), "--json"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert [site["state"] for site in json.loads(status.stdout)["sites"]] == ["online"] * 3
