"""A federation of real nodes, and the death of each of its processes, by SIGKILL.

The commands are those that hospitals run, over TLS on this machine's loopback. The server and the nodes are
started once: every message to a node takes seconds, because it starts a process.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flames_cli.config import PartitionConfig
from flames_cli.errors import FlamesError
from flames_cli.fed.events import ClientAsked, ClientJoined, Event, RoundDone, Waiting
from flames_cli.flower.flwr_command import find_superlink
from flames_cli.flower.processes import descendants, free_port
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.federate.stage import federate
from flames_cli.stages.partition.stage import partition
from flames_cli.store.checkpoint import load_state
from flames_cli.store.deployment.folders import Deployment
from tests.support.asserts import assert_same_state, without_timings
from tests.support.stages import federate_config

pytestmark = [pytest.mark.federated, pytest.mark.long]

FLAMES = Path(__file__).with_name("hasty.py")
SECONDS = 300.0
"""Longest time to wait for an event, on a busy machine."""

SITES = ("brats", "busi")
"""Data sets of the two sites: MRI and ultrasound."""


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS:.0f} s"
        time.sleep(0.1)


@dataclass
class Cluster:
    """A server and its nodes, whose commands print into files in `root`."""

    root: Path
    workspace: Path
    deployment: Deployment
    commands: dict[str, subprocess.Popen[bytes]]
    """`server`, and each site's."""

    def said(self, who: str) -> str:
        return (self.root / f"{who}.out").read_text(encoding="utf-8")

    def online(self) -> set[str]:
        server = (self.deployment.flower_home, self.deployment.port, self.deployment.ca_certificate)
        cli = find_superlink(*server)
        return {node.name for node in cli.nodes() if node.status == "online"} if cli else set()

    def superlink(self) -> psutil.Process:
        return find_process(self.commands["server"], "superlink")

    def server_app(self) -> psutil.Process:
        return find_process(self.commands["server"], "flwr-serverapp")

    def supernode(self, name: str) -> psutil.Process:
        return find_process(self.commands[name], "supernode")


def find_process(parent: subprocess.Popen[bytes], word: str) -> psutil.Process:
    """Return the process below `parent` with an argument that ends with `word`."""
    for process in descendants(parent.pid):
        try:
            if any(part.endswith(word) for part in process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"{parent.args} has no {word}")


@pytest.fixture(scope="module")
def cluster(workspace, tmp_path_factory) -> Iterator[Cluster]:
    yield from make_cluster(workspace(), tmp_path_factory.mktemp("cluster"), {"brats": 1}, SITES)


def make_cluster(
    workspace: Path, root: Path, split: dict[str, int], sites: tuple[str, ...]
) -> Iterator[Cluster]:
    """Start a server and a node for each of `sites`, which are the clients of the partition; end them all
    afterwards."""
    partition(PartitionConfig(workspace=workspace, datasets=SITES, split=split, overwrite=True))
    deployment = init_deployment(root / "deployment", "localhost", free_port(), list(sites), 30)
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, *command: object) -> None:
        with (root / f"{name}.out").open("wb") as file:
            started[name] = subprocess.Popen(
                [sys.executable, str(FLAMES), "deploy", *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=root,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            )

    try:
        start("server", "server", "--deployment", deployment.path, "--bind", "127.0.0.1")
        found = Cluster(root, workspace, deployment, started)
        wait_for(lambda: "ready at localhost" in found.said("server"), "the server")
        for name in sites:
            shard = workspace / "shards" / f"{name}.h5"
            start(name, "node", "--site", deployment.site(name).path, "--shard", shard)
        yield found
    finally:
        for process in started.values():
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a command as by Ctrl-C, with all its processes."""
    family = descendants(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for other in family:
        if other.is_running():
            other.kill()


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
    config = federate_config(cluster.workspace, run="real", **options)
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
        assert "round 2: answered" in cluster.said(name)
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
