"""A deployment on this machine: a server and real nodes, each with the commands that hospitals run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flames_cli.config import PartitionConfig
from flames_cli.flower.flwr_command import find_superlink
from flames_cli.flower.processes import descendants, free_port
from flames_cli.stages.deploy.init import init_deployment
from flames_cli.stages.partition.stage import partition
from flames_cli.store.deployment.folders import Deployment
from flames_cli.store.workspace import partition_folder

FLAMES = Path(__file__).with_name("hasty.py")
TAP = Path(__file__).with_name("tap")
"""Folder with the module that every process below a command loads, and that does what `Cluster.taps` says."""
SECONDS = 300.0
"""Longest time to wait for an event, on a busy machine."""

SITES = ("brats", "busi")
"""Data sets of the nodes: MRI and ultrasound."""


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
    commands: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """`server`, and each site's."""
    taps: dict[str, dict[str, str]] = field(default_factory=dict)
    """Environment of the server's and of sites' commands, for the module in TAP."""

    def start(self, name: str, *command: object, **environment: str) -> None:
        """Start a command of `flames deploy`, with more variables of its environment."""
        taps = self.taps.get(name, {})
        path = {"PYTHONPATH": os.pathsep.join([str(TAP), *sys.path])} if taps else {}
        with (self.root / f"{name}.out").open("wb") as file:
            self.commands[name] = subprocess.Popen(
                [sys.executable, str(FLAMES), "deploy", *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **path, **taps, **environment},
            )

    def start_node(self, name: str, **environment: str) -> None:
        """Start a site's node, in place of one that runs."""
        if name in self.commands:
            end(self.commands[name])
        shard = partition_folder(self.workspace) / "shards" / f"{name}.h5"
        folder = self.deployment.site(name).path
        self.start(name, "node", "--site", folder, "--shard", shard, **environment)

    def said(self, who: str) -> str:
        return (self.root / f"{who}.out").read_text(encoding="utf-8")

    def wait_until_said(self, who: str, sentence: str) -> None:
        """Wait for a sentence: a command shows what its node has logged within a second."""
        wait_for(lambda: sentence in self.said(who), f"{who}: {sentence}")

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


def make_cluster(
    workspace: Path, root: Path, split: dict[str, int], sites: tuple[str, ...]
) -> Iterator[Cluster]:
    """Start a server and a node for each of `sites`, which are the clients of the partition; end them all
    afterwards."""
    partition(PartitionConfig(workspace=workspace, datasets=SITES, split=split, overwrite=True))
    deployment = init_deployment(root / "deployment", "localhost", free_port(), list(sites), 30)
    yield from start_cluster(workspace, root, deployment, sites)


def start_cluster(
    workspace: Path,
    root: Path,
    deployment: Deployment,
    sites: tuple[str, ...],
    taps: dict[str, dict[str, str]] | None = None,
) -> Iterator[Cluster]:
    """Start the server of `deployment` and a node for each of `sites`; end them all afterwards."""
    found = Cluster(root, workspace, deployment, taps=taps or {})
    try:
        found.start("server", "server", "--deployment", deployment.path, "--bind", "127.0.0.1")
        wait_for(lambda: "ready at localhost" in found.said("server"), "the server")
        for name in sites:
            found.start_node(name)
        yield found
    finally:
        for process in found.commands.values():
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
