"""A federation of real nodes, and the death of each of its processes, by SIGKILL.

The commands are those that hospitals run, over TLS on this machine's loopback. The server and the nodes are
started once.
"""

import json
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from flames_cli.errors import FlamesError
from flames_cli.fed.events import ClientAsked, ClientJoined, Event, RoundDone, Waiting
from flames_cli.learn.use import open_model
from flames_cli.stages.federate.stage import federate
from flames_cli.store.checkpoint import load_state
from flames_cli.store.models import read_model
from tests.support.asserts import assert_same, assert_same_state, without_timings
from tests.support.cluster import SECONDS, SITES, Cluster, make_cluster, wait_for
from tests.support.stages import federate_config
from tests.support.tracked import read_csv_tracker

pytestmark = [pytest.mark.federated, pytest.mark.long]


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory) -> Iterator[Cluster]:
    yield from make_cluster(workspace(), tmp_path_factory.mktemp("cluster"), {"brats": 1}, SITES)


def kill_command(cluster: Cluster, config) -> None:
    """Run `flames federate` in its own process, and kill it when the run's process is working."""
    jobs = cluster.deployment.flower_home / "jobs"
    command = multiprocessing.get_context("fork").Process(target=federate, args=(config,))
    command.start()
    try:
        wait_for(lambda: any(jobs.glob("*.events.jsonl")), "the run whose command is to be killed")
    finally:
        command.kill()
        command.join()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_run_outlives_its_command_its_superlink_and_its_process(cluster):
    """The result is equal, to the last bit, to that of a run in one process."""
    options = {"engine": "superlink", "deployment": cluster.deployment.path, "wait_for_clients": SECONDS}
    config = federate_config(cluster.workspace, run="real", track=("csv",), **options)
    kill_command(cluster, config)

    events: list[Event] = []
    killed: list[psutil.Process] = []

    def watch(event: Event) -> None:
        events.append(event)
        if isinstance(event, ClientAsked) and len(killed) < event.round:
            killed.append(cluster.superlink() if event.round == 1 else cluster.server_app())
            killed[-1].kill()

    real = federate(config, watch)

    assert len(killed) == 2
    assert cluster.said("server").count("it restarts in") == 1
    lost = [event.round for event in events if isinstance(event, Waiting) and "was lost" in event.missing]
    assert lost == [1, 2]
    inline = federate(federate_config(cluster.workspace, run="inline"))
    assert_same_state(*(load_state(result.folder / "checkpoints") for result in (real, inline)))
    assert without_timings(real.records) == without_timings(inline.records)
    assert (real.final, real.chosen) == (inline.final, inline.chosen)
    assert (real.folder / "rounds.png").is_file()
    tracked = read_csv_tracker(real.folder, cluster.workspace)
    assert {number: one["round/seconds"] for number, one in tracked.items()} == {
        record["round"]: [record["seconds"]] for record in real.records
    }
    log = (real.folder / "log.txt").read_text(encoding="utf-8")
    assert log.count("was lost") == 2
    assert [log.count(f"Z round {number}: ") for number in (1, 2)] == [1, 1]
    assert {event.client: event.modality for event in events if isinstance(event, ClientJoined)} == {
        "brats": "MRI",
        "busi": "US",
    }
    assert [event.record for event in events if isinstance(event, RoundDone)] == real.records
    assert real.tests == json.loads((real.folder / "client-tests.json").read_text(encoding="utf-8"))
    tested = {client["client"] for client in real.tests["clients"]}
    assert tested | set(real.tests["silent"]) == set(SITES)
    assert all("its test set has fewer" in reason for reason in real.tests["silent"].values())
    for name in SITES:
        cluster.wait_until_said(name, "round 2 of 2: ")
        cluster.wait_until_said(name, "next: the server makes the final models")
        site = cluster.deployment.site(name)
        info, weights = read_model(site.models / "real")
        state = load_state(real.folder / "checkpoints", real.chosen.round)
        modality = info.input.modality
        assert_same(weights, state.final_model_for(name, modality, modality))
        assert (info.training.round, info.training.client) == (real.chosen.round, name)
        images = np.zeros((1, info.input.size, info.input.size), np.float32)
        assert open_model(info, weights, "cpu", "fp32").probabilities(images).shape == images.shape
        cluster.wait_until_said(name, f"flames predict --model {site.models / 'real'}")
        assert sorted(path.name for path in site.models.iterdir() if path.is_dir()) == ["real"]
    assert real.models_kept == dict.fromkeys(SITES, True)
    command = ["deploy", "status", "--json", "--deployment", str(cluster.deployment.path)]
    status = subprocess.run(
        [sys.executable, "-m", "flames_cli", *command],
        capture_output=True,
        check=True,
        timeout=SECONDS,
    )
    assert [site["state"] for site in json.loads(status.stdout)["sites"]] == ["online"] * 2
    assert list((cluster.deployment.flower_home / "jobs").iterdir()) == []


def test_a_node_that_is_killed_is_left_out_and_comes_back_and_a_run_without_nodes_ends(cluster):
    gone = cluster.commands["busi"]

    def kill_one() -> None:
        gone.send_signal(signal.SIGSTOP)  # otherwise it would restart its node
        cluster.supernode("busi").kill()

    def bring_it_back() -> None:
        """Let the node connect again while the round, which continues without it, waits."""
        server_app = cluster.server_app()
        server_app.suspend()
        try:
            gone.send_signal(signal.SIGCONT)
            wait_for(lambda: "busi" in cluster.online(), "the killed node back")
        finally:
            server_app.resume()

    def kill_all() -> None:
        for name in SITES:
            supernode = cluster.supernode(name)
            cluster.commands[name].kill()
            supernode.kill()

    turns = {("busi", 1): kill_one, ("brats", 2): bring_it_back, "all": kill_all}
    done: list[dict] = []

    def watch(event: Event) -> None:
        if isinstance(event, ClientAsked):
            turns.pop((event.client, event.round), lambda: None)()
        elif isinstance(event, RoundDone):
            done.append(event.record)
            if len(done) == 3:
                turns.pop("all")()

    options = {"engine": "superlink", "deployment": cluster.deployment.path, "wait_for_clients": SECONDS}
    options["min_clients_by_modality"] = {
        "US": 0
    }  # otherwise the next round would wait for the only node with US
    scaffold = {"strategy": "scaffold", "optimiser": "sgd", "lr": 0.05, "run": "left"}
    with pytest.raises(FlamesError, match=r"^round 4 got no good report") as ended:
        federate(federate_config(cluster.workspace, rounds=5, **scaffold, **options), watch)

    assert turns == {}
    assert all(name in str(ended.value) for name in SITES)
    assert [record["accepted"] for record in done] == [["brats"], ["brats"], ["brats", "busi"]]
    assert [set(record["rejected"]) for record in done] == [{"busi"}, set(), set()]
    assert "Node Unavailable" in done[0]["rejected"]["busi"]
    assert [len(record["clients"]) for record in done] == [2, 1, 2]
